// What is wrong or remarkable about the reserved regions of a DMAR table, each by itself, against each other, and against the
// host's memory map. Judges as Xen's register_one_rmrr and acpi_parse_one_rmrr do; refuses nothing.
import type { DmarStructure, Rmrr } from './dmar.ts';
import type { TableFinding } from './finding.ts';
import { type HostMapRegion, piecesOf, pieceText, placementOf } from './host-regions.ts';

const PAGE_SIZE = 4096;
const MIB = 2 ** 20;
const FOUR_GIB = 2 ** 32;

interface Region {
  readonly rmrr: Rmrr;
  /** Which RMRR of the table, from 0. */
  readonly index: number;
  /** Bytes. Rounded beyond 2^53, where no host has memory. */
  readonly base: number;
  readonly limit: number;
}

/** `note`: what `rmrr_notes` of the table's object says. */
interface Rule {
  readonly code: string;
  readonly severity: TableFinding['severity'];
  readonly remedy: string;
  note(region: Region, table: { readonly regions: readonly Region[]; readonly width: number }): string | null;
}

const FIRMWARE = 'ask for newer firmware; `rmrr=` on the command line of Xen gives a right one';

const isProper = ({ base, limit }: Region): boolean => base <= limit;

const RULES: readonly Rule[] = [
  {
    code: 'rmrr-base-above-limit',
    severity: 'blocker',
    remedy: `Xen ignores such a region and its devices fault when they use it: ${FIRMWARE}`,
    note: ({ rmrr }) => (rmrr.size < 0 ? 'base above limit' : null),
  },
  {
    code: 'rmrr-zero-pages',
    severity: 'blocker',
    remedy: `it reserves nothing: ${FIRMWARE}`,
    note: ({ rmrr }) => (rmrr.size === 0 ? 'zero pages' : null),
  },
  {
    code: 'rmrr-base-unaligned',
    severity: 'warning',
    remedy: 'whole pages are mapped, so the device reaches what lies beside the region on its first page',
    note: ({ base }) => (base % PAGE_SIZE === 0 ? null : 'base not 4K aligned'),
  },
  {
    code: 'rmrr-limit-unaligned',
    severity: 'warning',
    remedy: 'whole pages are mapped, so the device reaches what lies beside the region on its last page',
    note: ({ rmrr }) =>
      (Number.parseInt(rmrr.limit.slice(-3), 16) & 0xfff) === 0xfff ? null : 'limit+1 not 4K aligned',
  },
  {
    code: 'rmrr-below-1m',
    severity: 'warning',
    remedy:
      'a guest has RAM and its BIOS there, so rdm_policy strict refuses the device; with relaxed it runs without it',
    note: ({ base }) => (base < MIB ? 'starts below 1M' : null),
  },
  {
    code: 'rmrr-above-4g',
    severity: 'warning',
    remedy: 'give the guest less memory than reaches there, or rdm="strategy=host" to have it kept free',
    note: ({ limit }) => (limit >= FOUR_GIB ? 'reaches above 4G' : null),
  },
  {
    code: 'rmrr-beyond-host-width',
    severity: 'blocker',
    remedy: FIRMWARE,
    note: ({ limit }, { width }) => (limit >= 2 ** width ? `reaches beyond the host's ${width} address bits` : null),
  },
  {
    code: 'rmrr-shared',
    severity: 'info',
    remedy: 'Xen assigns one of them only with rdm_policy=relaxed (else -EPERM): give all of them to one guest',
    note: ({ rmrr: { scopes } }) => (scopes.length > 1 ? `shared by ${scopes.length} devices` : null),
  },
  {
    code: 'rmrr-duplicate',
    severity: 'blocker',
    remedy: `Xen takes it for an overlap and leaves the IOMMU off: ${FIRMWARE}`,
    note: (region, { regions }) => otherText(region, regions, 'the same range as', isSameRange),
  },
  {
    code: 'rmrr-overlap',
    severity: 'blocker',
    remedy: `Xen refuses the table (-EEXIST) and leaves the IOMMU off: ${FIRMWARE}`,
    note: (region, { regions }) =>
      otherText(region, regions, 'overlaps', (a, b) => !isSameRange(a, b) && a.base <= b.limit && b.base <= a.limit),
  },
];

/** A finding that the table's object has no note of. */
const NO_DEVICE: Omit<Rule, 'note'> = {
  code: 'rmrr-no-device',
  severity: 'warning',
  remedy: 'Xen ignores a region without a device',
};
const OTHER_SEGMENT: Omit<Rule, 'note'> = {
  code: 'rmrr-segment',
  severity: 'info',
  remedy: 'name its devices with their segment, as 0001:00:02.0',
};

const isSameRange = (a: Region, b: Region): boolean => a.rmrr.base === b.rmrr.base && a.rmrr.limit === b.rmrr.limit;

/** Told of the later one of two, in one segment: a device of another sees the same memory. */
function otherText(
  region: Region,
  regions: readonly Region[],
  word: string,
  isSuch: (a: Region, b: Region) => boolean,
): string | null {
  if (!isProper(region)) return null;
  const other = regions.find((r) => r.index < region.index && isProper(r) && isSuch(region, r));
  return other === undefined ? null : `${word} RMRR ${other.index}`;
}

function regionsOf(structures: readonly DmarStructure[]): Region[] {
  return structures
    .filter((s) => s.type === 'RMRR')
    .map((rmrr, index) => ({ rmrr, index, base: Number(rmrr.base), limit: Number(rmrr.limit) }));
}

/** Without the host's map. `width`: of the host's addresses, in bits. */
export function rmrrNotes(structures: readonly DmarStructure[], width: number): string[] {
  return ruleFindings(structures, width).map(({ what }) => what);
}

function ruleFindings(structures: readonly DmarStructure[], width: number): TableFinding[] {
  const regions = regionsOf(structures);
  return regions.flatMap((region) =>
    RULES.flatMap(({ note, ...rule }) => {
      const text = note(region, { regions, width });
      return text === null ? [] : [findingOf(region, rule, text)];
    }),
  );
}

const findingOf = ({ rmrr, index }: Region, rule: Omit<Rule, 'note'>, text: string): TableFinding => ({
  code: rule.code,
  severity: rule.severity,
  offset: rmrr.offset,
  what: `RMRR ${index}: ${text}`,
  remedy: rule.remedy,
});

/** All there is to say, with `map` also how each region lies in the host's memory. */
export function rmrrFindings(
  table: { readonly structures: readonly DmarStructure[]; readonly host_address_width: number },
  map?: readonly HostMapRegion[],
): TableFinding[] {
  const findings = ruleFindings(table.structures, table.host_address_width);
  for (const region of regionsOf(table.structures)) {
    if (region.rmrr.scopes.length === 0) findings.push(findingOf(region, NO_DEVICE, 'names no device'));
    if (region.rmrr.segment !== 0) {
      findings.push(findingOf(region, OTHER_SEGMENT, `is of PCI segment ${region.rmrr.segment}`));
    }
    const placed = map === undefined || !isProper(region) ? null : placementFinding(region, map);
    if (placed !== null) findings.push(placed);
  }
  return findings.sort((a, b) => a.offset - b.offset);
}

function placementFinding(region: Region, map: readonly HostMapRegion[]): TableFinding | null {
  const pieces = piecesOf(region.base, region.limit, map);
  const where = pieces.map(pieceText).join(', ');
  switch (placementOf(pieces)) {
    case 'reserved':
      return null;
    case 'not entirely reserved':
      return findingOf(
        region,
        {
          code: 'rmrr-not-reserved',
          severity: 'warning',
          remedy: 'Xen warns that it is not (entirely) in reserved memory and reserves it',
        },
        `not entirely in reserved memory: ${where}`,
      );
    case 'in RAM':
      return findingOf(
        region,
        { code: 'rmrr-in-ram', severity: 'blocker', remedy: `Xen refuses the region (-EIO): ${FIRMWARE}` },
        `lies in RAM: ${where}`,
      );
  }
}
