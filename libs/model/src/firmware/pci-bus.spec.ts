import { describe, expect, it } from 'vitest';
import { type BarKind, PciConfig, ROM_INDEX } from './pci-bus.ts';

const config = (bars: [number, BarKind, number][]): PciConfig =>
  new PciConfig({
    devfn: 0x28,
    vendor: 1,
    device: 1,
    classCode: 0,
    intPin: 0,
    command: 0,
    bars: bars.map(([index, kind, size]) => ({ index, kind, size })),
  });

describe('base address registers', () => {
  it('have the minimum sizes of hardware', () => {
    const found = config([
      [0, 'mem32', 1],
      [1, 'io', 1],
      [ROM_INDEX, 'rom', 1],
    ]).sizedRegisters();
    expect(found.map((r) => r.size)).toEqual([16, 4, 2048]);
  });

  it('a 64-bit register hides the next one, and only it can exceed 32 bits', () => {
    const found = config([
      [0, 'mem64p', 2 ** 34],
      [1, 'mem32', 4096],
      [2, 'mem32', 2 ** 33],
    ]).sizedRegisters();
    expect(found.map((r) => [r.bar.index, r.size])).toEqual([[0, 2 ** 34]]);
  });

  it('the command register keeps three bits', () => {
    const c = config([]);
    c.command = 0xff;
    expect([c.command, c.name]).toEqual([7, '05:0']);
  });
});
