import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LockTable } from '../shared-memory/lock-table.ts';
import { Mutex } from '../shared-memory/mutex.ts';
import { PanicCell } from '../shared-memory/panic.ts';
import type { Mfn } from './addresses.ts';
import { FrameTable } from './frame-table.ts';
import { Heap, MAX_ORDER } from './heap.ts';

const FRAMES = 2 ** 19;

function makeHeap(ranges: readonly [number, number][]): Heap {
  const declarations = [{ name: 'heap', scope: -1, bias: 0 }] as const;
  const locks = new LockTable(
    new SharedArrayBuffer(LockTable.bytes(1, 1)),
    declarations,
    0,
    new PanicCell(new SharedArrayBuffer(PanicCell.bytes())),
  );
  const frames = new FrameTable(new SharedArrayBuffer(FrameTable.bytes(FRAMES)), FRAMES);
  const heap = new Heap(new SharedArrayBuffer(Heap.bytes()), frames, new Mutex(locks, 0));
  for (const [start, end] of ranges) heap.addRange(start, end);
  return heap;
}

const blocksByOrder = (heap: Heap): number[] => Array.from({ length: MAX_ORDER + 1 }, (_, order) => heap.blocks(order));

describe('buddy allocator', () => {
  it('cuts a range into the largest aligned blocks', () => {
    const heap = makeHeap([[0x100, 0x80000]]);
    expect(heap.freePages).toBe(0x80000 - 0x100);
    expect(heap.blocks(18)).toBe(1);
    expect(heap.blocks(8)).toBe(1);
    expect(heap.blocks(17)).toBe(1);
  });

  it('splits down to order 0 and merges back to exactly the blocks it began with', () => {
    const heap = makeHeap([[0, 2 ** 18]]);
    const before = blocksByOrder(heap);
    const taken: Mfn[] = [];
    for (let i = 0; i < 1000; i++) taken.push(heap.alloc(0) as Mfn);
    expect(new Set(taken).size).toBe(1000);
    for (const m of taken.reverse()) heap.free(m, 0);
    expect(blocksByOrder(heap)).toEqual(before);
    expect(heap.freePages).toBe(2 ** 18);
  });

  it('never hands out overlapping or misaligned blocks, whatever the order of requests (all orders 0…18)', () => {
    const request = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant('alloc' as const), order: fc.integer({ min: 0, max: 18 }) }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('free' as const), pick: fc.nat() }) },
    );
    fc.assert(
      fc.property(fc.array(request, { maxLength: 200 }), (requests) => {
        const heap = makeHeap([
          [0x9, 0x4_0321],
          [0x5_0000, 2 ** 19],
        ]);
        const total = heap.freePages;
        const before = JSON.stringify(blocksByOrder(heap));
        const owned: { m: number; order: number }[] = [];
        for (const r of requests) {
          if (r.kind === 'alloc') {
            const m = heap.alloc(r.order);
            if (m < 0) continue;
            const end = m + 2 ** r.order;
            if (m % 2 ** r.order !== 0) return false;
            if (owned.some((o) => m < o.m + 2 ** o.order && o.m < end)) return false;
            owned.push({ m, order: r.order });
          } else if (owned.length > 0) {
            const [o] = owned.splice(r.pick % owned.length, 1);
            if (o) heap.free(o.m as Mfn, o.order);
          }
        }
        const held = owned.reduce((sum, o) => sum + 2 ** o.order, 0);
        if (heap.freePages !== total - held) return false;
        for (const o of owned) heap.free(o.m as Mfn, o.order);
        return JSON.stringify(blocksByOrder(heap)) === before;
      }),
      { numRuns: 60 },
    );
  });

  it('keeps what others have claimed, gives the claimer its share, and uses the claim up with it', () => {
    const heap = makeHeap([[0, 1024]]);
    const mine = { outstandingPages: 0 };
    const other = { outstandingPages: 0 };
    expect([heap.claim(mine, 1000), heap.claim(other, 25), other.outstandingPages]).toEqual([true, false, 0]);
    expect(heap.alloc(5)).toBe(-1);
    expect(heap.alloc(4)).toBeGreaterThanOrEqual(0);
    expect(heap.alloc(9, mine)).toBeGreaterThanOrEqual(0);
    expect([mine.outstandingPages, heap.claimedPages, heap.allocatablePages()]).toEqual([488, 488, 8]);
    expect(heap.alloc(4)).toBe(-1);
    heap.unclaim(mine);
    expect([heap.claimedPages, heap.alloc(5) >= 0]).toEqual([0, true]);
  });

  it('lets a claim go with the block that uses it up: nobody ever finds fewer pages than are free and unclaimed', () => {
    const heap = makeHeap([[0, 64]]);
    const mine = { outstandingPages: 0 };
    heap.claim(mine, 48);
    expect(heap.alloc(5, mine)).toBeGreaterThanOrEqual(0);
    expect([heap.freePages, heap.claimedPages, heap.allocatablePages()]).toEqual([32, 16, 16]);
    // The claimer may go beyond its claim with what is nobody's.
    expect(heap.alloc(4, mine)).toBeGreaterThanOrEqual(0);
    expect(heap.alloc(4, mine)).toBeGreaterThanOrEqual(0);
    expect([mine.outstandingPages, heap.freePages]).toEqual([0, 0]);
  });

  it('takes a free frame offline out of the middle of its block, and merges it back in', () => {
    const heap = makeHeap([[0, 1024]]);
    expect(heap.setOffline(300 as Mfn)).toBe('offlined');
    expect([heap.freePages, heap.offlinedPages, heap.blocks(10)]).toEqual([1023, 1, 0]);
    const given = new Set<number>();
    for (let m = heap.alloc(0); m >= 0; m = heap.alloc(0)) given.add(m);
    expect([given.size, given.has(300)]).toEqual([1023, false]);
    for (const m of given) heap.free(m as Mfn, 0);
    expect(heap.setOnline(300 as Mfn)).toBe('offlined');
    expect([heap.freePages, heap.offlinedPages, heap.blocks(10)]).toEqual([1024, 0, 1]);
  });

  it('keeps a used frame that was marked when its block is freed, whatever the size of that block', () => {
    const heap = makeHeap([[0, 1024]]);
    const block = heap.alloc(9) as Mfn;
    const marked = [3, 4, 511].map((i) => (block + i) as Mfn);
    expect(marked.map((m) => heap.setOffline(m))).toEqual(['offlining', 'offlining', 'offlining']);
    expect(heap.setOnline(marked[1] as Mfn)).toBe('offlining');
    expect(heap.freePages).toBe(512);
    heap.free(block, 9);
    expect([heap.freePages, heap.offlinedPages]).toEqual([1022, 2]);
    expect([block, ...marked].map((m) => heap.query(m))).toEqual(['online', 'offlined', 'online', 'offlined']);
  });
});
