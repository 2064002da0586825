import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ioDomain, policies } from '../../test-support/iommu-fixture.ts';
import { bootSmall } from '../../test-support/p2m-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { domainRecord } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import type { ModelPolicies } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { contiguityMarkersTrue } from '../invariants/iommu-invariants.ts';
import { Survey } from '../invariants/survey.ts';
import { FLUSHF_added, FLUSHF_all, FLUSHF_modified, FlushFlags, IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuFreePgtables, iommuLookupPage, iommuMap, iommuUnmap, runQueuedFrees } from './iommu.ts';
import { walkTables } from './walk.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
const PAGES = 4096;
/** Above the host's RAM: no frame's owner matters here. */
const FAR = 2 ** 24;

function setup(some: Partial<ModelPolicies> = {}): { h: Host; d: Domain } {
  const { h } = bootSmall({ policies: policies(some) });
  return { h, d: ioDomain(h, 1) };
}

const change = fc.record({
  op: fc.constantFrom('map', 'map', 'unmap'),
  dfn: fc.oneof(fc.constantFrom(0, 512, 1024, 2048), fc.integer({ min: 0, max: PAGES - 1 })),
  pages: fc.oneof(fc.constantFrom(1, 2, 512, 1024), fc.integer({ min: 1, max: 1500 })),
  shift: fc.constantFrom(0, 0, 0, 512 * 64, 3),
  flags: fc.constantFrom(RW, RW, RW, IOMMUF_readable),
});

interface Page {
  readonly mfn: number;
  readonly flags: number;
}

function expectTables(h: Host, d: Domain, oracle: ReadonlyMap<number, Page>): void {
  for (let dfn = 0; dfn < PAGES + 8; dfn++) {
    const page = oracle.get(dfn);
    const read = walkTables(h.tables.slots, d.r.iommuRoot, dfn, 1, 4);
    const write = walkTables(h.tables.slots, d.r.iommuRoot, dfn, 2, 4);
    expect(read < 0 ? -1 : Math.floor(read / 65536), `read ${dfn}`).toBe(page?.mfn ?? -1);
    expect(write >= 0, `write ${dfn}`).toBe(page !== undefined && (page.flags & IOMMUF_writable) !== 0);
  }
}

describe('second-level tables', () => {
  for (const shatter of ['atomic', 'naive', 'break-before-make'] as const) {
    it(`translate as a plain map after any sequence of maps and unmaps, with true markers and honest flush flags (${shatter})`, () => {
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), fc.boolean(), (changes, superpages) => {
          const { h, d } = setup({ shatter, iommuSuperpages: superpages ? 'on' : 'off' });
          const oracle = new Map<number, Page>();
          for (const { op, dfn, pages: wanted, shift, flags } of changes) {
            const pages = Math.min(wanted, PAGES - dfn);
            const flush = new FlushFlags();
            const before = new Map(oracle);
            const slots = h.tables.slots.slice(0, 512 * 64);
            const rc =
              op === 'map'
                ? iommuMap(h, d, dfn, FAR + dfn + shift, pages, flags, flush)
                : iommuUnmap(h, d, dfn, pages, flush);
            expect(rc).toBe(0);
            let presentChanged = false;
            let added = false;
            for (let g = dfn; g < dfn + pages; g++) {
              const fresh = op === 'map' ? { mfn: FAR + g + shift, flags } : undefined;
              const old = before.get(g);
              if (old && (old.mfn !== fresh?.mfn || old.flags !== fresh.flags)) presentChanged = true;
              if (!old && fresh) added = true;
              if (fresh) oracle.set(g, fresh);
              else oracle.delete(g);
            }
            if (presentChanged) expect(flush.bits & FLUSHF_modified).toBeTruthy();
            if (added) expect(flush.bits & FLUSHF_added).toBeTruthy();
            if (flush.bits === 0) expect(h.tables.slots.slice(0, 512 * 64)).toEqual(slots);
          }
          expectTables(h, d, oracle);
          runQueuedFrees(h);
          expectTables(h, d, oracle);
          expect(contiguityMarkersTrue(new Survey(h))).toEqual([]);
        }),
        { numRuns: 40 },
      );
    });
  }

  it('re-form a 2M leaf when the 512th page comes, and a 1G leaf when the 512th superpage comes', () => {
    const { h, d } = setup();
    const flush = new FlushFlags();
    const tables = d.r.iommuTables;
    for (let g = 0; g < 511; g++) iommuMap(h, d, g, FAR + g, 1, RW, flush);
    expect(flush.bits).toBe(FLUSHF_added);
    iommuMap(h, d, 511, FAR + 511, 1, RW, flush);
    expect(flush.bits).toBe(FLUSHF_added | FLUSHF_modified | FLUSHF_all);
    expect(h.counters.read('iommu.ptCoalesces')).toBe(1);
    expect(iommuMap(h, d, 512, FAR + 512, 2 ** 18 - 512, RW, flush)).toBe(0);
    expect(h.counters.read('iommu.ptCoalesces')).toBe(2);
    runQueuedFrees(h);
    // The root, and the directory that holds the 1G leaf.
    expect(d.r.iommuTables).toBe(tables + 1);
    expect(iommuLookupPage(h, d, 12345)).toEqual({ rc: 0, mfn: FAR + 12345, flags: RW });
  });

  it('keep a table that was linked until the queue is run, and give its frame back then', () => {
    const { h, d } = setup();
    const flush = new FlushFlags();
    iommuMap(h, d, 0, FAR, 512, RW, flush);
    iommuUnmap(h, d, 3, 1, flush);
    const { freePages } = h.heap;
    iommuMap(h, d, 3, FAR + 3, 1, RW, flush);
    expect(h.heap.freePages).toBe(freePages);
    runQueuedFrees(h);
    expect(h.heap.freePages).toBe(freePages + 1);
  });

  it('ask for no flush where an entry is stored as it was, and for the whole domain where a table went away', () => {
    const { h, d } = setup();
    const flush = new FlushFlags();
    iommuMap(h, d, 7, FAR, 1, RW, flush);
    flush.bits = 0;
    iommuMap(h, d, 7, FAR, 1, RW, flush);
    expect(flush.bits).toBe(0);
    iommuMap(h, d, 7, FAR, 1, IOMMUF_readable, flush);
    expect(flush.bits).toBe(FLUSHF_added | FLUSHF_modified);
    flush.bits = 0;
    iommuUnmap(h, d, 8, 1, flush);
    expect(flush.bits).toBe(0);
    iommuUnmap(h, d, 7, 1, flush);
    expect(flush.bits).toBe(FLUSHF_modified | FLUSHF_all);
  });

  it('leave the superpage whole when its split finds no memory, log it, crash the domain and undo what was mapped', () => {
    const { h, d } = setup();
    const flush = new FlushFlags();
    iommuMap(h, d, 512, FAR, 512, RW, flush);
    while (h.heap.freePages > 0) h.heap.alloc(0);
    expect(iommuUnmap(h, d, 600, 1, flush)).toBe(-errno.ENOMEM);
    expect(iommuLookupPage(h, d, 600).mfn).toBe(FAR + 88);
    expect(d.crashed).toBe(true);
  });

  it('refuse nothing and do nothing for a dying domain, and unmap still', () => {
    const { h, d } = setup();
    const flush = new FlushFlags();
    iommuMap(h, d, 1, FAR, 1, RW, flush);
    Atomics.store(d.r.words, domainRecord.at.isDying, 1);
    expect(iommuMap(h, d, 2, FAR, 1, RW, flush)).toBe(0);
    expect(iommuLookupPage(h, d, 2).rc).toBe(-errno.ENOENT);
    expect(iommuUnmap(h, d, 1, 1, flush)).toBe(0);
    expect(iommuLookupPage(h, d, 1).rc).toBe(-errno.ENOENT);
  });

  it('are all freed in slices when the domain dies, root pointer first', () => {
    const { h } = bootSmall({ policies: policies() });
    const before = { free: h.heap.freePages, tables: h.tables.inUse };
    const d = ioDomain(h, 1, 16);
    const own = { free: h.heap.freePages + 1, tables: h.tables.inUse - 1 };
    const flush = new FlushFlags();
    for (let i = 0; i < 200; i++) iommuMap(h, d, i * 1024, FAR, 1, RW, flush);
    Atomics.store(d.r.words, domainRecord.at.isDying, 1);
    let slices = 1;
    while (iommuFreePgtables(h, d, () => true) === -errno.ERESTART) {
      expect(d.r.iommuRoot).toBe(0);
      slices++;
    }
    expect(slices).toBeGreaterThan(2);
    expect({ free: h.heap.freePages, tables: h.tables.inUse }).toEqual(own);
    expect(before.tables).toBeLessThanOrEqual(own.tables);
    expect(d.r.iommuTables).toBe(0);
  });
});
