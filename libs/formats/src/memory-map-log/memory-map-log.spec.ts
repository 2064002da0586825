import { describe, expect, it } from 'vitest';
import { OperatorError } from '../operator-error.ts';
import { memoryMapText } from './inspection.ts';
import { parseMemoryMapLog, readMemoryMapLog } from './memory-map-log.ts';
import { coverOf, overlapsOf, ramOf } from './rmrr-cover.ts';

const bounds = (text: string): string[] =>
  parseMemoryMapLog(text).map.map(({ start, end, type }) => `${start.toString(16)}-${end.toString(16)} ${type}`);

describe('a memory map in a log', () => {
  it('is read from every spelling, the end made inclusive', () => {
    const spellings = [
      'BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable',
      '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable',
      'Mar  1 10:00:00 host kernel: BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable',
      ' BIOS-e820: 0000000000100000 - 0000000080000000 (usable)',
      '(XEN)  0000000000100000 - 0000000080000000 (usable)',
      '(XEN)  [0000000000100000, 000000007fffffff] (usable)',
      '[2020-08-22 10:09:03] (XEN) [    0.000000]  [0000000000100000, 000000007fffffff] (usable)\r',
    ];
    for (const line of spellings) expect(bounds(line), line).toEqual(['100000-7fffffff usable']);
  });

  it("is the host's own where the kernel prints what it made of it, or what a dom0 got", () => {
    const map = 'BIOS-e820: [mem 0x0-0xfff] reserved\nmodified: [mem 0x0-0x1fff] reserved\n';
    expect(bounds(map)).toEqual(['0-fff reserved']);
    expect(bounds('modified physical RAM map:\nmodified: [mem 0x0-0x1fff] reserved\n')).toEqual(['0-1fff reserved']);
    expect(bounds(`Xen: [mem 0x0-0xffff] usable\n(XEN)  [0000000000000000, 000000000009ffff] (usable)\n`)).toEqual([
      '0-9ffff usable',
    ]);
    expect(parseMemoryMapLog('Xen: [mem 0x0-0xffff] usable').problems[0]?.message).toContain("dom0's own");
  });

  it('is the first of several boots, and the one Xen uses where it prints the raw one too', () => {
    const boot = 'BIOS-e820: [mem 0x0-0xfff] usable\nBIOS-e820: [mem 0x1000-0x1fff] reserved\n';
    expect(bounds(boot + boot)).toHaveLength(2);
    const xen = (last: string): string => `(XEN)  [0000000000000000, ${last}] (usable)\n`;
    const verbose = `(XEN) Initial Xen-e820 RAM map:\n${xen('00000000000fffff')}(XEN) Xen-e820 RAM map:\n${xen('000000000009ffff')}`;
    expect(bounds(verbose)).toEqual(['0-9ffff usable']);
  });

  it('keeps unknown types, and passes over entries that cannot be, with their line', () => {
    expect(bounds('BIOS-e820: [mem 0x0-0xfff] type 20')).toEqual(['0-fff type 20']);
    const { map, problems } = parseMemoryMapLog(
      'BIOS-e820: [mem 0x2000-0x1fff] usable\nBIOS-e820: [mem 0x0-0xffffffffffffffff] usable\nBIOS-e820: [mem 0xzz] usable',
    );
    expect(map).toEqual([]);
    expect(problems.map(({ line }) => line)).toEqual([1, 2, 3]);
  });
});

describe('RMRRs in a log', () => {
  it('are read from Linux and Xen, with the devices that Xen lists', () => {
    const { rmrrs } = parseMemoryMapLog(
      '(XEN) [VT-D]found ACPI_DMAR_RMRR:\n(XEN) [VT-D] endpoint: 0000:00:1d.0\n(XEN) [VT-D]drivers/passthrough/vtd/dmar.c:610:  RMRR: [d9888000,d9894fff]\n' +
        '(XEN) [VT-D]dmar.c:608:   RMRR region: base_addr bdf8f000 end_addr bdf92fff\nDMAR: RMRR base: 0x0000007c000000 end: 0x0000007c0fffff\n',
    );
    expect(rmrrs.map(({ base, devices }) => [base.toString(16), devices])).toEqual([
      ['d9888000', ['0000:00:1d.0']],
      ['bdf8f000', []],
      ['7c000000', []],
    ]);
  });

  it('that only a complaint names are known too, once', () => {
    const complaint = 'RMRR: [0x8d800000, 0x8fffffff] is not (entirely) in reserved memory';
    const announced = '(XEN) [VT-D]  RMRR: [8d800000,8fffffff]';
    expect(parseMemoryMapLog(`${complaint}\n`).rmrrs).toHaveLength(1);
    expect(parseMemoryMapLog(`${complaint}\n${announced}\n`).rmrrs).toHaveLength(1);
  });

  it('with their limit below their base are told', () => {
    const { problems } = parseMemoryMapLog('DMAR: RMRR base: 0x2000 end: 0x1fff');
    expect(problems[0]?.message).toContain('below its base');
  });
});

describe('what covers a range', () => {
  const map = [
    { start: 0, end: 0xfff, type: 'usable' },
    { start: 0x2000, end: 0x3fff, type: 'reserved' },
  ];

  it('is summed by type, with the hole between', () => {
    expect(coverOf(map, 0, 0x2fff)).toEqual(
      new Map([
        ['usable', 0x1000],
        ['reserved', 0x1000],
        ['<hole>', 0x1000],
      ]),
    );
    expect(coverOf(map, 0, 0)).toBe('zero-length');
  });

  it('RAM on both sides of 4 GiB is split there, and overlaps are found', () => {
    expect(ramOf([{ start: 2 ** 32 - 4096, end: 2 ** 32 + 4095, type: 'usable' }])).toEqual({
      below4g: 4096,
      above4g: 4096,
    });
    expect(overlapsOf([...map, { start: 0xfff, end: 0x1fff, type: 'ACPI NVS' }])).toHaveLength(1);
  });
});

describe('a log as a file', () => {
  it('without a map and without an RMRR is refused', () => {
    expect(() => readMemoryMapLog('hello\n', 'boot.log')).toThrow(OperatorError);
  });

  it('is shown as a table with holes, and RMRRs that are not entirely reserved stand out', () => {
    const text = memoryMapText(
      parseMemoryMapLog('BIOS-e820: [mem 0x1000-0x1fff] usable\nDMAR: RMRR base: 0x2000 end: 0x2fff'),
    );
    expect(text).toContain('000000000000 - 000000000fff       4 KiB  (hole)');
    expect(text).toContain('hole 4 KiB   ← not entirely reserved');
  });
});
