import { describe, expect, it } from 'vitest';
import { sampleDmar } from '../../test-support/sample-tables.ts';
import {
  dmarStructure,
  dmarTable,
  drhd,
  endpoint,
  ivrsTable,
  repaired,
  rmrr,
} from '../../test-support/table-writer.ts';
import { parseDmar } from './dmar.ts';
import { FormatError } from './format-error.ts';

function faultOf(table: Uint8Array): FormatError {
  try {
    parseDmar(table);
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error('the table was read');
}

describe('a DMAR table', () => {
  it('gives every structure with its offset, its scopes and its own fields', () => {
    const table = parseDmar(sampleDmar[0] ?? new Uint8Array());
    expect(table.host_address_width).toBe(46);
    expect(table.flags).toBe(7);
    expect(table.structures.map(({ type, offset }) => `${type} ${offset}`)).toEqual([
      'DRHD 48',
      'DRHD 72',
      'RMRR 120',
      'RMRR 152',
      'ATSR 204',
      'RHSA 220',
      'ANDD 240',
      'SATC 263',
      'SIDP 279',
      'UNKNOWN 295',
    ]);
    expect(table.structures[0]).toMatchObject({ register_base: '0xfed90000', include_all: false, size_field: 4 });
    expect(table.structures[1]).toMatchObject({ include_all: true, scopes: [{ kind: 'ioapic' }, {}, {}, {}] });
    expect(table.structures[2]).toMatchObject({ base: '0x7b800000', limit: '0x7fffffff', size: 75497472 });
    expect(table.structures[5]).toMatchObject({ register_base: '0xfed90000', proximity: 1 });
    expect(table.structures[6]).toMatchObject({ device_number: 1, name: '\\_SB.PCI0.I2C0' });
    expect(table.structures[8]).toMatchObject({ scopes: [{ bdf: '00:02.0', flags: 31 }] });
    expect(table.structures[9]).toMatchObject({ code: 9, raw: '090009000102030405' });
  });

  it('leaves the device of a path over bridges open', () => {
    const [, , , shared] = parseDmar(sampleDmar[0] ?? new Uint8Array()).structures;
    expect(shared).toMatchObject({
      scopes: [{ bdf: '00:14.0' }, {}, { path: ['1c.4', '00.0', '02.1'], bdf: null, length: 12 }],
    });
  });

  it('keeps addresses of all 64 bits', () => {
    const top = 0xffff_ffff_ffff_f000n;
    const [region] = parseDmar(dmarTable([rmrr(top, top + 0xfffn, [endpoint(2)])])).structures;
    expect(region).toMatchObject({ base: '0xfffffffffffff000', limit: '0xffffffffffffffff', size: 4096 });
  });

  it('names what cannot be believed though it can be read', () => {
    const table = dmarTable([
      drhd(0, [{ type: 1, path: [[0x20, 0]] }]),
      drhd(0xfed90000, [], { segment: 1 }),
      dmarStructure(7, []),
    ]);
    expect(parseDmar(table).anomalies).toEqual([
      'DRHD register base 0',
      'DRHD at 0x30: no PCI device can be 20.0',
      'structure of type 7 at 0x58 is unknown: kept raw',
      'more than PCI segment 0',
    ]);
  });
});

describe('a damaged DMAR table is refused with offset and field:', () => {
  const good = dmarTable([drhd(0xfed90000, [endpoint(2)]), rmrr(0x7b800000, 0x7fffffff, [endpoint(2)])]);
  const DRHD = 48;
  const RMRR = 72;
  const changed = (at: number, value: number): Uint8Array => {
    const copy = good.slice();
    copy[at] = value;
    return repaired(copy);
  };

  it.each([
    ['another table', ivrsTable([]), 0, 'DMAR.signature'],
    ['nothing at all', new Uint8Array(), 0, 'DMAR.signature'],
    ['a wrong checksum', good.with(20, 1), 9, 'header.checksum'],
    ['a file cut off', good.slice(0, -4), 4, 'DMAR.length'],
    ['a file cut off in the header', good.slice(0, 6), 4, 'DMAR.length'],
    ['a file with more behind the table', Uint8Array.from([...good, 0]), 4, 'DMAR.length'],
    ['a length shorter than the fixed part', repaired(good.slice(0, 40)), 4, 'DMAR.length'],
    ['a structure of zero bytes', changed(DRHD + 2, 0), DRHD + 2, 'DMAR.DRHD.length'],
    ['a structure shorter than its fields', changed(RMRR + 2, 20), RMRR + 2, 'DMAR.RMRR.length'],
    ['a structure longer than the table', changed(RMRR + 3, 1), RMRR, 'DMAR.RMRR.length'],
    ['a scope of zero bytes', changed(DRHD + 17, 0), DRHD + 17, 'DRHD.device_scope.length'],
    ['a scope without a path', changed(DRHD + 17, 6), DRHD + 17, 'DRHD.device_scope.length'],
    ['a scope with half a hop', changed(DRHD + 17, 9), DRHD + 17, 'DRHD.device_scope.length'],
    ['a scope longer than its structure', changed(DRHD + 17, 10), DRHD + 16, 'DRHD.device_scope.length'],
    [
      'a structure that ends in half a header',
      repaired(Uint8Array.from([...good, 0, 0])),
      good.length + 2,
      'DMAR.structure.length',
    ],
  ])('%s', (_, table, offset, field) => {
    const fault = faultOf(table);
    expect({ offset: fault.offset, field: fault.field }).toEqual({ offset, field });
    expect(fault.message).toContain(`offset 0x${offset.toString(16)}: ${field}: `);
    expect(fault.remedy).not.toBe('');
  });
});
