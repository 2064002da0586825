// Tables that have every structure and every entry there is: what specs read and damage.
import {
  acpidumpText,
  acpiEntry,
  aliasEntry,
  andd,
  asciiBytes,
  atsr,
  dmarStructure,
  dmarTable,
  drhd,
  dslText,
  endpoint,
  extendedEntry,
  ivhd,
  ivmd,
  ivrsBlock,
  ivrsTable,
  plainEntry,
  rhsa,
  rmrr,
  satc,
  sidp,
  specialEntry,
} from './table-writer.ts';

const NIC_OVER_BRIDGES = {
  type: 1,
  path: [
    [0x1c, 4],
    [0, 0],
    [2, 1],
  ],
} as const;

/** One with all types, one as a laptop has it. */
export const sampleDmar: readonly Uint8Array[] = [
  dmarTable(
    [
      drhd(0xfed90000, [endpoint(2)], { size: 4 }),
      drhd(
        0xfed91000,
        [
          { type: 3, id: 2, bus: 0xf0, path: [[0x1f, 0]] },
          { type: 4, id: 1, path: [[0x1e, 6]] },
          { type: 5, id: 1, path: [[0x15, 0]] },
          { type: 2, path: [[1, 0]] },
        ],
        { flags: 1 },
      ),
      rmrr(0x7b800000, 0x7fffffff, [endpoint(2)]),
      rmrr(0x7a000000, 0x7a00ffff, [endpoint(0x14), endpoint(0x1a), NIC_OVER_BRIDGES]),
      atsr(0, [{ type: 2, path: [[1, 0]] }]),
      rhsa(0xfed90000, 1),
      andd(1, '\\_SB.PCI0.I2C0'),
      satc(1, [endpoint(2)]),
      sidp([{ ...endpoint(2), flags: 31 }]),
      dmarStructure(9, [1, 2, 3, 4, 5]),
    ],
    { width: 46, flags: 7 },
  ),
  dmarTable([drhd(0xfed90000, [endpoint(2)]), rmrr(0x7b800000, 0x7fffffff, [endpoint(2)])]),
];

const COMMON_ENTRIES = [
  plainEntry(3, 0x0008),
  plainEntry(4, 0xfffe),
  aliasEntry(0x43, 0xff00, 0x00a5),
  plainEntry(4, 0xffff),
  plainEntry(0, 0),
  specialEntry(0, 0x00a0, 2),
  specialEntry(33, 0x00a0, 1, 0xd7),
];

/** One with all entries, one as a laptop has it. */
export const sampleIvrs: readonly Uint8Array[] = [
  ivrsTable([
    ivhd(0x10, 0xfd400000, [
      plainEntry(1, 0),
      plainEntry(2, 0x0010, 0x40),
      aliasEntry(0x42, 0x0300, 0x0208),
      extendedEntry(0x46, 0x0400, 0x80000000),
      extendedEntry(0x47, 0x0500, 1),
      plainEntry(4, 0x05ff),
    ]),
    ivhd(0x11, 0xfd400000, COMMON_ENTRIES),
    ivhd(0x40, 0xfd400000, [
      ...COMMON_ENTRIES,
      acpiEntry(0x00a5, 'AMDI0020', 2, asciiBytes('\\_SB.FUR0')),
      acpiEntry(0x00a5, 'AMDI0021', 1, [7, 0, 0, 0, 0, 0, 0, 0]),
      acpiEntry(0x00a6, 'AMDI0022', 0, []),
    ]),
    ivmd(0x20, 0x08, [0, 0], 0x9618e000, 0x1000),
    ivmd(0x21, 0x07, [0x0300, 0], 0xccd42000, 0x26000),
    ivmd(0x22, 0x03, [0, 0x0fff], 0x97d9d000, 1),
    ivrsBlock(0x51, 8, [0, 3, 0, 0, 1, 2, 3, 4]),
    ivrsBlock(0x77, 1, [1, 2, 3]),
  ]),
  ivrsTable([ivhd(0x10, 0xfd400000, COMMON_ENTRIES)]),
];

const ascii = new TextEncoder();

/** The first DMAR as acpidump and iasl print it, the former with another table before it. */
export const samplesAsText: readonly Uint8Array[] = sampleDmar.flatMap((dmar) => [
  ascii.encode(
    acpidumpText([
      { name: 'IVRS', bytes: sampleIvrs[0] ?? dmar },
      { name: 'DMAR', bytes: dmar },
    ]),
  ),
  ascii.encode(dslText(dmar)),
]);
