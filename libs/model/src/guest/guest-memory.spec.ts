import { describe, expect, it } from 'vitest';
import { createGuestMemory, GuestMemory, pageState } from './guest-memory.ts';
import { pagesIn, ramRanges } from './ram-ranges.ts';

const request = { taken: [], vcpus: 2, seed: 1, unitPages: 1, allocation: 'scattered', hotplugPages: 0 } as const;

describe('the guest frame allocator', () => {
  it('hot-adds memory behind what the map reserves above RAM, never over it', () => {
    const ranges = [{ start: 0, end: 512 }];
    const taken = [{ start: 1_500, end: 1_600 }];
    const memory = new GuestMemory(createGuestMemory({ ...request, ranges, taken, hotplugPages: 2_048 }), 0);
    expect([memory.hotAdd(512), memory.hotAdd(1_024)]).toEqual([true, true]);
    expect(memory.peekBallooned(1e9).filter((gfn) => gfn >= 1_500 && gfn < 1_600)).toEqual([]);
    expect(memory.record.endGfn).toBe(2_048 + 1_024);
    expect(memory.record.ramPages).toBe(512 + 512 + 1_024);
  });

  it('scatters single pages over all 2M blocks, the same way for the same seed', () => {
    const ranges = [{ start: 0, end: 128 * 512 }];
    const first = new GuestMemory(createGuestMemory({ ...request, ranges }), 0).allocPages(300, pageState.used);
    const again = new GuestMemory(createGuestMemory({ ...request, ranges }), 0).allocPages(300, pageState.used);
    const other = new GuestMemory(createGuestMemory({ ...request, seed: 2, ranges }), 0).allocPages(
      300,
      pageState.used,
    );
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    // 128·(1 − (1 − 1/128)^300) ≈ 116 blocks, were every page drawn anew.
    expect(new Set(first.map((g) => Math.floor(g / 512))).size).toBeGreaterThan(105);
  });

  it('hands out every page exactly once, and then no more', () => {
    const ranges = [
      { start: 0, end: 160 },
      { start: 256, end: 1300 },
    ];
    const memory = new GuestMemory(createGuestMemory({ ...request, ranges }), 0);
    const all = memory.allocPages(2000, pageState.used);
    expect(all).toHaveLength(pagesIn(ranges));
    expect(new Set(all).size).toBe(all.length);
    expect(memory.record.freePages).toBe(0);
    memory.freePages(all);
    expect(memory.record.freePages).toBe(all.length);
  });

  it('gives whole 2M runs only where all 512 pages are free RAM', () => {
    const memory = new GuestMemory(createGuestMemory({ ...request, ranges: [{ start: 100, end: 512 * 4 + 7 }] }), 0);
    const runs = [memory.allocRun(pageState.used), memory.allocRun(pageState.used), memory.allocRun(pageState.used)];
    expect(runs.sort((a, b) => a - b)).toEqual([512, 1024, 1536]);
    expect(memory.allocRun(pageState.used)).toBe(-1);
  });

  it('shares one state between the views of all vCPUs', () => {
    const shared = createGuestMemory({ ...request, ranges: [{ start: 0, end: 1024 }] });
    const [a, b] = [new GuestMemory(shared, 0), new GuestMemory(shared, 1)];
    const taken = [...a.allocPages(500, pageState.used), ...b.allocPages(524, pageState.used)];
    expect(new Set(taken).size).toBe(1024);
  });

  it('spreads a ring evenly over RAM, holes left out', () => {
    const ranges = [
      { start: 0, end: 512 },
      { start: 1024, end: 1536 },
    ];
    const memory = new GuestMemory(createGuestMemory({ ...request, ranges }), 0);
    expect(memory.allocSpread(4, pageState.dma)).toEqual([0, 256, 1024, 1280]);
    expect(memory.allocSpread(2, pageState.dma)).toEqual([1, 1025]);
  });

  it('takes pages from an exact frame up or down', () => {
    const memory = new GuestMemory(createGuestMemory({ ...request, ranges: [{ start: 0, end: 1024 }] }), 0);
    memory.allocUpFrom(998, 1, pageState.used);
    expect(memory.allocDownFrom(1000, 3, pageState.dma)).toEqual([1000, 999, 997]);
    expect(memory.allocUpFrom(997, 2, pageState.dma)).toEqual([1001, 1002]);
  });
});

describe('ramRanges', () => {
  const entry = (addr: number, size: number, type: 1 | 2): { addr: number; size: number; type: 1 | 2 } => ({
    addr,
    size,
    type,
  });

  it('keeps whole frames only, and what is not RAM wins where entries overlap', () => {
    const map = [
      entry(0, 0x9fc00, 1),
      entry(0x100000, 0x700000, 1),
      entry(0x300800, 0x1000, 2),
      entry(0x9fc00, 0x60400, 2),
    ];
    expect(ramRanges(map)).toEqual([
      { start: 0, end: 0x9f },
      { start: 0x100, end: 0x300 },
      { start: 0x302, end: 0x800 },
    ]);
  });

  it('counts RAM that two entries name once', () => {
    expect(pagesIn(ramRanges([entry(0, 0x10000, 1), entry(0x8000, 0x10000, 1)]))).toBe(0x18);
  });
});
