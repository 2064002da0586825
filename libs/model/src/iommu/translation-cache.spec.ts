import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bank, TranslationCache } from './translation-cache.ts';

function cache(devices = 4): TranslationCache {
  const bytes = TranslationCache.bytes(devices);
  const buffer = new SharedArrayBuffer(bytes + 8);
  return new TranslationCache(buffer, 0, devices, new Int32Array(buffer, bytes, 2));
}

describe('the cache of a unit', () => {
  it('finds what was filled, under its own domain id only', () => {
    const c = cache();
    c.fill(bank.leaf4k, 7, 0x12345, 99, 8, c.sequence);
    expect(c.lookup(bank.leaf4k, 7, 0x12345)).toBe(99);
    expect(c.extra).toBe(8);
    expect(c.lookup(bank.leaf4k, 8, 0x12345)).toBe(-1);
    expect(c.lookup(bank.leaf2m, 7, 0x12345)).toBe(-1);
  });

  it('gives a superpage entry for every page inside it', () => {
    const c = cache();
    c.fill(bank.leaf2m, 1, 512 * 3 + 17, 5, 0, c.sequence);
    expect(c.lookup(bank.leaf2m, 1, 512 * 3)).toBe(5);
    expect(c.lookup(bank.leaf2m, 1, 512 * 4 - 1)).toBe(5);
    expect(c.lookup(bank.leaf2m, 1, 512 * 4)).toBe(-1);
  });

  it('discards a fill if a flush began after its transaction opened', () => {
    const c = cache();
    const opened = c.sequence;
    c.beginFlush();
    c.fill(bank.leaf4k, 1, 5, 42, 0, opened);
    expect(c.lookup(bank.leaf4k, 1, 5)).toBe(-1);
    c.fill(bank.leaf4k, 1, 5, 43, 0, c.sequence);
    expect(c.lookup(bank.leaf4k, 1, 5)).toBe(43);
  });

  it('drops a cached superpage, and the tables above, when one 4K page inside it is invalidated', () => {
    const c = cache();
    c.fill(bank.leaf2m, 1, 1024, 1, 0, c.sequence);
    c.fill(bank.leaf1g, 1, 0, 2, 0, c.sequence);
    c.fill(bank.tableOf2m, 1, 1024, 3, 0, c.sequence);
    c.fill(bank.tableOf1g, 1, 1024, 4, 0, c.sequence);
    c.fill(bank.tableOf2m, 2, 1024, 5, 0, c.sequence);
    c.invalidatePages(1, 1030, 0);
    expect([...c.cached()].map((e) => e.value)).toEqual([5]);
  });

  it('drops after any invalidation exactly what it covers (model: a list of entries)', () => {
    const entry = fc.record({
      bank: fc.integer({ min: 0, max: 4 }),
      did: fc.integer({ min: 0, max: 2 }),
      frame: fc.integer({ min: 0, max: 4096 }),
    });
    const invalidation = fc.oneof(
      fc.record({
        did: fc.integer({ min: 0, max: 2 }),
        frame: fc.integer({ min: 0, max: 4096 }),
        order: fc.integer({ min: 0, max: 12 }),
      }),
      fc.record({ did: fc.integer({ min: 0, max: 2 }), frame: fc.constant(-1), order: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 60 }), invalidation, (entries, what) => {
        const c = cache();
        for (const e of entries) c.fill(e.bank, e.did, e.frame, 1, 0, c.sequence);
        const before = [...c.cached()];
        const first = what.frame - (what.frame % 2 ** what.order);
        if (what.frame < 0) c.invalidateDomain(what.did);
        else c.invalidatePages(what.did, first, what.order);
        const hit = (e: { did: number; frame: number; order: number }): boolean =>
          e.did === what.did &&
          (what.frame < 0 || (e.frame < first + 2 ** what.order && first < e.frame + 2 ** e.order));
        expect([...c.cached()]).toEqual(before.filter((e) => !hit(e)));
      }),
    );
  });

  it('keeps contexts per device, apart from translations', () => {
    const c = cache(5);
    for (let device = 0; device < 5; device++) c.fill(bank.context, 0, device, 100 + device, 0, c.sequence);
    c.invalidateDomain(0);
    for (let device = 0; device < 5; device++) expect(c.lookup(bank.context, 0, device)).toBe(100 + device);
    c.invalidateContext(3);
    expect(c.lookup(bank.context, 0, 3)).toBe(-1);
    expect(c.lookup(bank.context, 0, 4)).toBe(104);
    c.invalidateAll();
    expect(c.lookup(bank.context, 0, 4)).toBe(-1);
  });
});
