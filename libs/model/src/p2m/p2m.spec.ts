import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bareDomain, bootSmall } from '../../test-support/p2m-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { allocDomheap, putPage } from '../domain/memory.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mAddForeign } from './foreign.ts';
import { getPageFromGfn, P2M_QUERY } from './get-entry.ts';
import { AccessOutcome, accessResult, guestAccess } from './guest-access.ts';
import { p2mAddIdentityEntry, p2mRemoveIdentityEntry } from './identity.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { guestPhysmapAddPage, guestRemovePage, p2mRemovePage } from './physmap.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

const alloc = (h: Host, d: Domain, order: number): Mfn => {
  const m = allocDomheap(h, d, order);
  if (m < 0) throw new Error('no memory');
  return m as Mfn;
};

function set(h: Host, d: Domain, g: number, m: number, order: number, type: number): number {
  p2mLock(h, d);
  try {
    return p2mSetEntry(h, d, g, m as Mfn, order, type, p2mAccess.rwx);
  } finally {
    p2mUnlock(h, d);
  }
}

describe('p2m entries', () => {
  it('answers mmio_dm without rights for anything never mapped', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    const leaf = new Leaf();
    expect(peekEntry(h, d, 0x1234, leaf)).toBe(INVALID_MFN);
    expect([leaf.type, leaf.access]).toEqual([p2mType.mmioDm, p2mAccess.n]);
  });

  it('agrees with a flat map after any sequence of sets of all orders', () => {
    const op = fc.record({
      region: fc.integer({ min: 0, max: 3 }),
      page: fc.integer({ min: 0, max: 511 }),
      order: fc.constantFrom(0, 0, 0, 3, 9, 10),
      kind: fc.constantFrom('ram', 'clear', 'pod'),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 40 }), (ops) => {
        const { h } = bootSmall();
        const d = bareDomain(h, 1, 64);
        const oracle = new Map<number, string>();
        for (const { region, page, order, kind } of ops) {
          const span = 2 ** order;
          const g = Math.floor((region * 512 + page) / span) * span;
          const m = 4096 + g;
          const rc =
            kind === 'ram'
              ? set(h, d, g, m, order, p2mType.ramRw)
              : set(h, d, g, INVALID_MFN, order, kind === 'pod' ? p2mType.populateOnDemand : p2mType.invalid);
          if (rc !== 0) return false;
          for (let i = 0; i < span; i++) {
            if (kind === 'clear') oracle.delete(g + i);
            else oracle.set(g + i, kind === 'ram' ? `ram:${m + i}` : 'pod');
          }
        }
        const leaf = new Leaf();
        for (let g = 0; g < 5 * 512; g++) {
          peekEntry(h, d, g, leaf);
          const found =
            leaf.type === p2mType.ramRw
              ? `ram:${leaf.mfn}`
              : leaf.type === p2mType.populateOnDemand
                ? 'pod'
                : undefined;
          if (found !== oracle.get(g)) return false;
        }
        return true;
      }),
      { numRuns: 60 },
    );
  });

  it('splits a 1G leaf to 4K with two pool pages, leaves neighbours as they were, and fails whole without them', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1, 260);
    expect(set(h, d, 2 ** 18, 2 ** 18, 18, p2mType.ramRw)).toBe(0);
    // leave exactly one page in the pool
    const spare = d.pool.length - 1;
    const kept = Array.from({ length: spare }, () => d.pool.shift());
    expect(set(h, d, 2 ** 18 + 5, INVALID_MFN, 0, p2mType.invalid)).toBe(-errno.ENOMEM);
    const leaf = new Leaf();
    peekEntry(h, d, 2 ** 18 + 5, leaf);
    expect([leaf.mfn, leaf.order]).toEqual([2 ** 18 + 5, 18]);
    expect(d.pool.length).toBe(1);
    for (const m of kept) d.pool.append(m as Mfn);
    const before = d.pool.length;
    expect(set(h, d, 2 ** 18 + 5, INVALID_MFN, 0, p2mType.invalid)).toBe(0);
    expect(before - d.pool.length).toBe(2);
    peekEntry(h, d, 2 ** 18 + 4, leaf);
    expect([leaf.mfn, leaf.order]).toEqual([2 ** 18 + 4, 0]);
    peekEntry(h, d, 2 ** 18 + 512, leaf);
    expect([leaf.mfn, leaf.order]).toEqual([2 ** 18 + 512, 9]);
  });

  it('gives the table page back when a superpage replaces a table', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    for (let i = 0; i < 512; i++) set(h, d, 512 + i, 4096 + i, 0, p2mType.ramRw);
    const free = d.pool.length;
    expect(set(h, d, 512, 8192, 9, p2mType.ramRw)).toBe(0);
    expect(d.pool.length).toBe(free + 1);
  });
});

describe('physmap', () => {
  it('adds RAM with M2P, and removing needs the very frame: anything else is -EILSEQ', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    const m = alloc(h, d, 9);
    expect(guestPhysmapAddPage(h, d, 1024, m, 9)).toBe(0);
    expect(h.frames.gfnOf((m + 7) as Mfn)).toBe(1031);
    expect(p2mRemovePage(h, d, 1031, (m + 8) as Mfn, 0)).toBe(-errno.EILSEQ);
    expect(p2mRemovePage(h, d, 1031, (m + 7) as Mfn, 0)).toBe(0);
    expect(h.frames.gfnOf((m + 7) as Mfn)).toBe(-1);
  });

  it('populating over RAM succeeds and orphans the old frame; tot_pages keeps growing', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    const first = alloc(h, d, 0);
    const second = alloc(h, d, 0);
    expect(guestPhysmapAddPage(h, d, 5, first, 0)).toBe(0);
    expect(guestPhysmapAddPage(h, d, 5, second, 0)).toBe(0);
    expect([h.frames.gfnOf(first), h.frames.gfnOf(second), d.r.totPages]).toEqual([-1, 5, 2]);
  });

  it('removing RAM frees it at the last reference only; a hole is -ENOENT, direct MMIO -EPERM', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    const m = alloc(h, d, 0);
    guestPhysmapAddPage(h, d, 5, m, 0);
    const free = h.heap.freePages;
    expect(h.frames.getPage(m, d.domid)).toBe(true);
    expect(guestRemovePage(h, d, 5)).toBe(0);
    expect(h.heap.freePages).toBe(free);
    putPage(h, m);
    expect([h.heap.freePages, d.r.totPages]).toEqual([free + 1, 0]);
    expect(guestRemovePage(h, d, 5)).toBe(-errno.ENOENT);
    p2mAddIdentityEntry(h, d, 0x300, p2mAccess.rw, 0);
    expect(guestRemovePage(h, d, 0x300)).toBe(-errno.EPERM);
  });

  it('RAM over a special entry crashes the domain with -EPERM (XSA-378)', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    p2mAddIdentityEntry(h, d, 0x300, p2mAccess.rw, 0);
    const m = alloc(h, d, 0);
    expect(guestPhysmapAddPage(h, d, 0x300, m, 0)).toBe(-errno.EPERM);
    expect(d.crashed).toBe(true);
    expect(log.lines.at(-1)).toContain('Domain 1 reported crashed by domain 32767 on cpu#0:');
  });
});

describe('identity entries', () => {
  it('inserts into a hole, does nothing when identical, refuses or ignores when occupied', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    expect(p2mAddIdentityEntry(h, d, 0xad000, p2mAccess.rw, 0)).toBe(0);
    expect(p2mAddIdentityEntry(h, d, 0xad000, p2mAccess.rw, 0)).toBe(0);
    const m = alloc(h, d, 0);
    guestPhysmapAddPage(h, d, 0x7ff, m, 0);
    expect(p2mAddIdentityEntry(h, d, 0x7ff, p2mAccess.rw, 0)).toBe(-errno.EBUSY);
    expect(log.lines).toContain(`Cannot setup identity map d1:7ff, gfn already mapped to ${m.toString(16)}.`);
    expect(p2mAddIdentityEntry(h, d, 0x7ff, p2mAccess.rw, 1)).toBe(0);
    const leaf = new Leaf();
    peekEntry(h, d, 0x7ff, leaf);
    expect(leaf.type).toBe(p2mType.ramRw);
    expect(p2mRemoveIdentityEntry(h, d, 0xad000)).toBe(0);
    peekEntry(h, d, 0xad000, leaf);
    expect(leaf.type).toBe(p2mType.mmioDm);
  });
});

describe('foreign mappings', () => {
  it('hold a reference: the frame outlives its own domain’s removal until the mapping goes', () => {
    const { h } = bootSmall();
    const dom0 = bareDomain(h, 0);
    const d = bareDomain(h, 1);
    const m = alloc(h, d, 0);
    guestPhysmapAddPage(h, d, 5, m, 0);
    expect(p2mAddForeign(h, dom0, 5, 0x900, d)).toBe(0);
    expect(dom0.r.nrForeign).toBe(1);
    const free = h.heap.freePages;
    expect(guestRemovePage(h, d, 5)).toBe(0);
    expect([h.heap.freePages, d.r.totPages]).toEqual([free, 1]);
    expect(p2mRemovePage(h, dom0, 0x900, m, 0)).toBe(-errno.EILSEQ); // the caller must hold a reference of its own
    expect(getPageFromGfn(h, dom0, 0x900, P2M_QUERY, new Leaf())).toBe(m);
    expect(p2mRemovePage(h, dom0, 0x900, m, 0)).toBe(0);
    putPage(h, m);
    expect([h.heap.freePages, d.r.totPages, dom0.r.nrForeign]).toEqual([free + 1, 0, 0]);
    expect(p2mAddForeign(h, dom0, 5, 0x900, d)).toBe(-errno.EINVAL);
    expect(p2mAddForeign(h, d, 5, 6, d)).toBe(-errno.EINVAL);
  });

  it('shatters the superpage of the domain it is put into, and frees the RAM it replaces', () => {
    const { h } = bootSmall();
    const dom0 = bareDomain(h, 0);
    const d = bareDomain(h, 1);
    guestPhysmapAddPage(h, dom0, 512, alloc(h, dom0, 9), 9);
    guestPhysmapAddPage(h, d, 5, alloc(h, d, 0), 0);
    expect(p2mAddForeign(h, dom0, 5, 600, d)).toBe(0);
    expect(dom0.r.totPages).toBe(511);
    const leaf = new Leaf();
    peekEntry(h, dom0, 601, leaf);
    expect(leaf.order).toBe(0);
    expect(h.counters.read('p2m.split')).toBe(1);
  });
});

describe('guest accesses', () => {
  it('store, load and see the contents through the TLB; a hole is emulated', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    const m = alloc(h, d, 0);
    guestPhysmapAddPage(h, d, 5, m, 0);
    const out = new AccessOutcome();
    expect(guestAccess(h, d, 5, 0x77, out)).toBe(accessResult.ok);
    expect(guestAccess(h, d, 5, null, out)).toBe(accessResult.ok);
    expect(out.tag).toBe(0x77);
    expect(h.counters.read('cpu.tlbHit')).toBe(1);
    expect(guestAccess(h, d, 6, null, out)).toBe(accessResult.emulated);
    expect(log.violations).toEqual([]);
  });

  it('after a removal the next access misses: the deferred flush reached this CPU', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    guestPhysmapAddPage(h, d, 5, alloc(h, d, 0), 0);
    const out = new AccessOutcome();
    guestAccess(h, d, 5, 0x77, out);
    guestRemovePage(h, d, 5);
    expect(guestAccess(h, d, 5, null, out)).toBe(accessResult.emulated);
    expect(log.violations).toEqual([]);
  });

  it('with the flush lost, the same access reaches the freed frame and is reported', () => {
    const { h, log } = bootSmall({ policies: { ...bootSmall().h.config.policies, cpuFlush: 'lost' } });
    const d = bareDomain(h, 1);
    guestPhysmapAddPage(h, d, 5, alloc(h, d, 0), 0);
    const out = new AccessOutcome();
    guestAccess(h, d, 5, 0x77, out);
    guestRemovePage(h, d, 5);
    expect(guestAccess(h, d, 5, null, out)).toBe(accessResult.ok);
    expect(log.violations.map((v) => v.invariant)).toEqual(['noCpuAccessToFreedFrame']);
  });

  it('a page reference keeps the frame, not the mapping', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    const m = alloc(h, d, 0);
    guestPhysmapAddPage(h, d, 5, m, 0);
    const leaf = new Leaf();
    expect(getPageFromGfn(h, d, 5, P2M_QUERY, leaf)).toBe(m);
    guestRemovePage(h, d, 5);
    expect(h.frames.ownerOf(m)).toBe(1);
    expect(peekEntry(h, d, 5, leaf)).toBe(INVALID_MFN);
    putPage(h, m);
    expect(h.frames.ownerOf(m)).toBe(-1);
  });
});
