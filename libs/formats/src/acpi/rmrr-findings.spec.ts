import { describe, expect, it } from 'vitest';
import { dmarTable, endpoint, ivmd, ivrsTable, rmrr } from '../../test-support/table-writer.ts';
import { parseDmar } from './dmar.ts';
import { piecesOf, placementOf } from './host-regions.ts';
import { ivmdFindings } from './ivmd-findings.ts';
import { parseIvrs } from './ivrs.ts';
import { rmrrFindings } from './rmrr-findings.ts';

const IGD = [endpoint(2)];
const MAP = [
  { start: 0, end: 0x9fbff, type: 'usable' },
  { start: 0x9fc00, end: 0x9ffff, type: 'reserved' },
  { start: 0x100000, end: 0x7cffffff, type: 'usable' },
  { start: 0x7d000000, end: 0x7fffffff, type: 'reserved' },
  { start: 0x80000000, end: 0x800fffff, type: 'ACPI data' },
  { start: 0x100000000, end: 0x17fffffff, type: 'usable' },
];

describe('a reserved region', () => {
  it.each([
    [
      'with its base above its limit',
      [rmrr(0x7e000000, 0x7d000fff, IGD)],
      ['rmrr-base-above-limit'],
      'base above limit',
    ],
    ['of zero pages', [rmrr(0x7e000000, 0x7dffffff, IGD)], ['rmrr-zero-pages'], 'zero pages'],
    ['with an unaligned base', [rmrr(0x7d000800, 0x7dffffff, IGD)], ['rmrr-base-unaligned'], 'base not 4K aligned'],
    [
      'with an unaligned limit',
      [rmrr(0x7d000000, 0x7d000800, IGD)],
      ['rmrr-limit-unaligned'],
      'limit+1 not 4K aligned',
    ],
    ['below 1 MiB', [rmrr(0xe0000, 0xfffff, IGD)], ['rmrr-below-1m'], 'starts below 1M'],
    ['above 4 GiB', [rmrr(0x180000000, 0x18000ffff, IGD)], ['rmrr-above-4g'], 'reaches above 4G'],
    [
      'of more devices',
      [rmrr(0x7d000000, 0x7dffffff, [endpoint(0x14), ...IGD])],
      ['rmrr-shared'],
      'shared by 2 devices',
    ],
  ])('%s is told with its code and noted in the table', (_, structures, codes, note) => {
    const table = parseDmar(dmarTable(structures));
    expect(rmrrFindings(table).map(({ code }) => code)).toEqual(codes);
    expect(table.rmrr_notes).toEqual([`RMRR 0: ${note}`]);
  });

  it('that another one overlaps or repeats is told of the later one', () => {
    const table = parseDmar(
      dmarTable([
        rmrr(0x7d000000, 0x7d00ffff, IGD),
        rmrr(0x7d00f000, 0x7d01ffff, IGD),
        rmrr(0x7d000000, 0x7d00ffff, IGD),
      ]),
    );
    expect(table.rmrr_notes).toEqual([
      'RMRR 1: overlaps RMRR 0',
      'RMRR 2: the same range as RMRR 0',
      'RMRR 2: overlaps RMRR 1',
    ]);
  });

  it('that no host can have is told', () => {
    const table = parseDmar(dmarTable([rmrr(2 ** 40, 2 ** 40 + 0xfff, IGD)], { width: 39 }));
    expect(table.rmrr_notes).toContain("RMRR 0: reaches beyond the host's 39 address bits");
  });

  it('without a device or of another segment is told without a note in the table', () => {
    const table = parseDmar(dmarTable([rmrr(0x7d000000, 0x7dffffff, [], 1)]));
    expect(rmrrFindings(table).map(({ what }) => what)).toEqual([
      'RMRR 0: names no device',
      'RMRR 0: is of PCI segment 1',
    ]);
    expect(table.rmrr_notes).toEqual([]);
  });

  it('is laid into the host map as a whole, not by its ends', () => {
    const table = parseDmar(
      dmarTable([
        rmrr(0x7d000000, 0x7dffffff, IGD),
        rmrr(0x9f000, 0x9ffff, IGD),
        rmrr(0x7e000000, 0x80001fff, IGD),
        rmrr(0x90000000, 0x90000fff, IGD),
      ]),
    );
    const placed = rmrrFindings(table, MAP).filter(({ code }) => /reserved|ram/.test(code));
    expect(placed.map(({ code, severity, what }) => `${code} ${severity} ${what}`)).toEqual([
      'rmrr-in-ram blocker RMRR 1: lies in RAM: 9f000-9fbff usable, 9fc00-9ffff reserved',
      'rmrr-not-reserved warning RMRR 2: not entirely in reserved memory: 7e000000-7fffffff reserved, 80000000-80001fff ACPI data',
      'rmrr-not-reserved warning RMRR 3: not entirely in reserved memory: 90000000-90000fff hole',
    ]);
  });
});

describe('pieces of a range', () => {
  it('cover it without gap, name holes and what lies beyond RAM', () => {
    expect(piecesOf(0x17ffff000, 0x180000fff, MAP)).toEqual([
      { start: 0x17ffff000, end: 0x17fffffff, type: 'usable' },
      { start: 0x180000000, end: 0x180000fff, type: 'beyond RAM' },
    ]);
    expect(placementOf(piecesOf(0, 2 ** 52, MAP))).toBe('in RAM');
  });
});

describe('a memory range of an IVRS table', () => {
  it.each([
    ['of zero bytes', 0x7d000000, 0, ['ivmd-zero-bytes']],
    ['of one byte', 0x7d000000, 1, ['ivmd-unaligned']],
    ['in RAM', 0x1000000, 0x1000, ['ivmd-in-ram']],
    ['in a hole', 0x90000000, 0x1000, ['ivmd-not-reserved']],
    ['in reserved memory', 0x7d000000, 0x1000, []],
    ['beyond the address bits', 2 ** 50, 0x1000, ['ivmd-beyond-host-width']],
  ])('%s', (_, start, length, codes) => {
    const table = parseIvrs(ivrsTable([ivmd(0x21, 1, [0, 0], start, length)]));
    expect(ivmdFindings(table, MAP).map(({ code }) => code)).toEqual(codes);
  });
});
