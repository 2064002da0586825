import { describe, expect, it } from 'vitest';
import { bootTestbed, hypercall, makeGuest, type Testbed } from '../test-support/hypercall-fixture.ts';

const p2mRows = (bed: Testbed) =>
  new Map(bed.h.lockProfile().flatMap(({ name, scope, lockCnt }) => (name === 'p2m' ? [[scope, lockCnt]] : [])));

describe('the lock profile', () => {
  it('names a domain’s locks by its number, a dead one’s too, and starts anew with each domain', () => {
    const bed = bootTestbed();
    const first = makeGuest(bed);
    const { domid, slot } = first;
    const extents = { start: 0, count: 64 };
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
    const counted = p2mRows(bed).get(domid) ?? 0;
    expect(counted).toBeGreaterThanOrEqual(64);
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid });
    const second = makeGuest(bed);
    expect([second.domid, second.slot]).not.toEqual([domid, slot]);
    expect(p2mRows(bed).get(domid)).toBeGreaterThanOrEqual(counted);
    expect(p2mRows(bed).get(second.domid)).toBeLessThan(counted);
    // Until its slot is another domain's.
    while (bed.h.slot(slot).domid === domid)
      hypercall(bed, bed.dom0, { op: 'destroydomain', domid: makeGuest(bed).domid });
    expect(p2mRows(bed).has(domid)).toBe(false);
    expect([...p2mRows(bed).keys()]).toContain(0);
  });
});
