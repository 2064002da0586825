import { describe, expect, it } from 'vitest';
import { sampleIvrs } from '../../test-support/sample-tables.ts';
import {
  acpiEntry,
  aliasEntry,
  ivhd,
  ivmd,
  ivrsBlock,
  ivrsTable,
  plainEntry,
  repaired,
} from '../../test-support/table-writer.ts';
import { FormatError } from './format-error.ts';
import { parseIvrs } from './ivrs.ts';

function faultOf(table: Uint8Array): { offset: number; field: string } {
  try {
    parseIvrs(table);
  } catch (error) {
    if (error instanceof FormatError) return { offset: error.offset, field: error.field };
    throw error;
  }
  throw new Error('the table was read');
}

describe('an IVRS table', () => {
  const table = parseIvrs(sampleIvrs[0] ?? new Uint8Array());

  it('tells the sizes of addresses and every block with its offset', () => {
    expect(table).toMatchObject({ ivinfo: '0x203043', pa_size: 48, va_size: 64 });
    expect(table.structures.map(({ type, code }) => `${type} ${code}`)).toEqual([
      'IVHD 0x10',
      'IVHD 0x11',
      'IVHD 0x40',
      'IVMD 0x20',
      'IVMD 0x21',
      'IVMD 0x22',
      'IVMDR 0x51',
      'UNKNOWN 0x77',
    ]);
  });

  it('reads each kind of device entry by its own layout', () => {
    expect(table.structures[0]).toMatchObject({
      device_id: '00:00.2',
      iommu_base: '0xfd400000',
      entries: [
        { type: '0x1', id: '00:00.0', data: 0 },
        { type: '0x2', id: '00:02.0', data: 0x40 },
        { type: '0x42', id: '03:00.0', alias: '02:01.0' },
        { type: '0x46', id: '04:00.0', extended: '0x80000000' },
        { type: '0x47', id: '05:00.0', extended: '0x1' },
        { type: '0x4', id: '05:1f.7' },
      ],
    });
    expect(table.structures[2]).toMatchObject({
      entries: [
        { type: '0x3', id: '00:01.0' },
        { type: '0x4', id: 'ff:1f.6' },
        { type: '0x43', id: 'ff:00.0', alias: '00:14.5' },
        { type: '0x4', id: 'ff:1f.7' },
        { type: '0x0' },
        { variety: 'hpet', handle: 0, source: '00:14.0' },
        { variety: 'ioapic', handle: 33, source: '00:14.0', data: 0xd7 },
        { hid: 'AMDI0020', cid: '', uid_format: 2, uid: '\\_SB.FUR0', id: '00:14.5' },
        { hid: 'AMDI0021', uid_format: 1, uid: '0x7' },
        { hid: 'AMDI0022', uid_format: 0, uid: '' },
      ],
    });
  });

  it('takes a whole number of two bytes, as firmware writes it', () => {
    const [unit] = parseIvrs(ivrsTable([ivhd(0x40, 0xfd400000, [acpiEntry(0xa5, 'MSFT0201', 1, [2, 1])])])).structures;
    expect(unit).toMatchObject({ entries: [{ hid: 'MSFT0201', uid_format: 1, uid: '0x102' }] });
  });

  it('tells whom a memory range is for and what it allows', () => {
    expect(table.structures[3]).toMatchObject({ applies_to: 'all', exclusion: true, end: '0x9618efff' });
    expect(table.structures[4]).toMatchObject({ applies_to: 'select', unity: true, read: true, write: true });
    expect(table.structures[5]).toMatchObject({
      applies_to: 'range',
      device_id: '00:00.0',
      aux: '0f:1f.7',
      unity: true,
      write: false,
      start: '0x97d9d000',
      mem_length: '0x1',
      end: '0x97d9d000',
    });
  });

  it('names what cannot be believed though it can be read', () => {
    const odd = ivrsTable([
      ivhd(0x10, 0, [plainEntry(4, 0x10), plainEntry(3, 0x20), aliasEntry(0x43, 0x30, 0x31)], 2),
      ivmd(0x21, 1, [0, 0], 0x1000, 0),
      ivrsBlock(0x99, 0, []),
    ]);
    expect(parseIvrs(odd).anomalies).toEqual([
      'IVHD base 0',
      'IVHD at 0x30 is of PCI segment 2',
      'IVHD at 0x30: the range to 00:02.0 has no start',
      'IVHD at 0x30: the range from 00:04.0 has no end before that from 00:06.0',
      'IVHD at 0x30: the range from 00:06.0 has no end',
      'IVMD at 0x58: zero bytes',
      'block of type 0x99 at 0x78 is unknown: kept raw',
    ]);
  });
});

describe('a damaged IVRS table is refused with offset and field:', () => {
  const good = ivrsTable([ivhd(0x10, 0xfd400000, [plainEntry(1, 0), aliasEntry(0x42, 8, 16)])]);
  const named = ivrsTable([ivhd(0x40, 0xfd400000, [acpiEntry(0xa5, 'AMDI0020', 1, [1, 0, 0, 0, 0, 0, 0, 0])])]);
  const changed = (table: Uint8Array, at: number, value: number): Uint8Array => repaired(table.with(at, value));
  const IVHD = 48;
  const ENTRY_40H = IVHD + 40;

  it.each([
    ['a wrong checksum', good.with(20, 1), 9, 'header.checksum'],
    ['a file cut off', good.slice(0, -1), 4, 'IVRS.length'],
    ['a block of zero bytes', changed(good, IVHD + 2, 0), IVHD + 2, 'IVRS.IVHD 0x10.length'],
    ['a block longer than the table', changed(good, IVHD + 3, 1), IVHD, 'IVRS.IVHD 0x10.length'],
    ['an 11h block with the fields of a 10h one', changed(good, IVHD, 0x11), IVHD + 2, 'IVRS.IVHD 0x11.length'],
    ['an entry longer than its block', changed(good, IVHD + 28, 0x82), IVHD + 28, 'IVHD 0x10.device_entry.length'],
    ['a name longer than its block', changed(named, ENTRY_40H + 21, 9), ENTRY_40H, 'IVHD 0x40.device_entry.length'],
  ])('%s', (_, table, offset, field) => {
    expect(faultOf(table)).toEqual({ offset, field });
  });
});
