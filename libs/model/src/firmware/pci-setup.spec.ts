import { describe, expect, it } from 'vitest';
import type { E820Entry } from '../toolstack/e820.ts';
import { HoleAllocators } from './hole-allocators.ts';
import type { HvmInfo } from './memory-map-setup.ts';
import type { BarKind, PciFunction } from './pci-bus.ts';
import { type PciSettings, pciSetup } from './pci-setup.ts';

const MIB = 2 ** 20;
const isaBridge: PciFunction = {
  devfn: 8,
  vendor: 0x8086,
  device: 0x7000,
  classCode: 0x601,
  intPin: 0,
  command: 0,
  bars: [],
};
const gpu = (...bars: [number, BarKind, number][]): PciFunction => ({
  devfn: 0x28,
  vendor: 0x10de,
  device: 0x1380,
  classCode: 0x302,
  intPin: 1,
  command: 0,
  bars: bars.map(([index, kind, mib]) => ({ index, kind, size: mib * MIB })),
});

function setup(
  functions: PciFunction[],
  lowMemPgend: number,
  reserved: E820Entry[] = [],
  settings: Partial<PciSettings> = {},
) {
  const memoryMap: E820Entry[] = [{ addr: MIB, size: lowMemPgend * 4096 - MIB, type: 1 }, ...reserved];
  const info: HvmInfo = { lowMemPgend, highMemPgend: 0, memoryMap };
  const moves: [number, number, number][] = [];
  const memory = { populatePage: () => true, relocate: (...move: [number, number, number]) => moves.push(move) > 0 };
  const lines: string[] = [];
  const result = pciSetup({
    info,
    memory,
    allocators: new HoleAllocators(info, memory),
    settings: { physBits: 39, allowMemoryRelocate: '0', xenPlatformPciBarUc: '1', mmioHoleSize: null, ...settings },
    functions: [isaBridge, ...functions],
    print: (line) => lines.push(line),
  });
  const addresses = result.devices.flatMap((d) => d.registers.map((r) => r.address));
  return { result, addresses, moves, lines, info };
}

describe('placing BARs', () => {
  it('the low window doubles until the BARs fit, as long as no RAM is in the way', () => {
    const bars = gpu([0, 'mem32', 16], [1, 'mem64p', 256], [3, 'mem64p', 32]);
    expect(setup([bars], 0x80000).result.pciMemStart).toBe(0xe0000000);
    const crowded = setup([bars], 0xf0000);
    expect(crowded.result.pciMemStart).toBe(0xf0000000);
    expect(crowded.addresses[1]).toBe(0x100000000); // the largest 64-bit BAR goes above 4 GiB instead
    expect(crowded.lines).toContain('Low MMIO hole not large enough for all devices, relocating some BARs to 64-bit');
  });

  it('a BAR of more than 1 GiB is above 4 GiB whatever the window', () => {
    const { addresses, result } = setup([gpu([0, 'mem64p', 16384])], 0x10000);
    expect(addresses).toEqual([0x400000000]);
    expect([result.pciHiMemStart, result.pciHiMemEnd]).toEqual([0x400000000, 0x800000000]);
  });

  it('a BAR hops over a reserved region, and the gap before it is lost', () => {
    const rmrr: E820Entry = { addr: 0x8a000000, size: 0x100000, type: 2 };
    const { addresses } = setup([gpu([0, 'mem32', 256], [1, 'mem32', 16])], 0x80000, [rmrr], {
      mmioHoleSize: '2147483648',
    });
    expect(addresses).toEqual([0x90000000, 0xa0000000]);
  });

  it('moves RAM out of an enlarged window in chunks from the top down, also where relocation is disabled', () => {
    const { moves, info, lines } = setup([], 0xf0000, [], { mmioHoleSize: String(2 ** 29) });
    expect(moves).toEqual([
      [0xe0001, 0x100000, 65535],
      [0xe0000, 0x10ffff, 1],
    ]);
    expect([info.lowMemPgend, info.highMemPgend]).toEqual([0xe0000, 0x110000]);
    expect(lines).toContain('Relocating 0xffff pages from 0e0001000 to 100000000 for lowmem MMIO hole');
  });

  it('a BAR that fits nowhere stays unprogrammed and the others go on', () => {
    const { addresses, lines } = setup([gpu([0, 'mem32', 1024], [1, 'mem32', 16])], 0xf0000);
    expect(addresses).toEqual([null, 0xf0000000]);
    expect(lines).toContain('pci dev 05:0 bar 10 size 040000000: no space for resource!');
  });

  it('a foreign device of class 0680 kills the guest', () => {
    expect(() => setup([{ ...gpu(), classCode: 0x680 }], 0x10000)).toThrow('*** HVMLoader assertion');
  });

  it('an Intel primary VGA gets three pages for its OpRegion', () => {
    const { result } = setup([{ ...gpu(), vendor: 0x8086, classCode: 0x300 }], 0x10000);
    expect([result.virtualVga, result.igdOpregionPfn]).toEqual(['pt', 0xfdffd]);
  });
});
