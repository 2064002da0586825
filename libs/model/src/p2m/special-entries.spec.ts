import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest } from '../../test-support/hypercall-fixture.ts';
import { firmwareTag, writeFirmwareMemory } from '../boot/firmware-memory.ts';
import { sbdf } from '../frames/addresses.ts';
import { defaultPolicies, type ModelPolicies } from '../host-config.ts';
import { type Call, physmapSpace } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { checkInvariants } from '../invariants/check.ts';
import { DmaThread } from '../iommu/dma.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mType } from './types.ts';

const USB = sbdf(0, 0, 2, 0);
/** Above the heap's RAM, so that the region is firmware's. */
const REGION = 0x3f00;
const rmrrs = [{ startPfn: REGION, endPfn: REGION + 1, devices: [USB] }];

/** A guest with a device whose reserved region is mapped 1:1, and some RAM. */
function guestWithRegion(some: Partial<ModelPolicies> = {}) {
  const policies = { ...defaultPolicies, ...some };
  const bed = bootTestbed({ policies, rmrrs, heapRanges: [{ start: 0x10, end: REGION }] });
  writeFirmwareMemory(bed.h);
  const d = makeGuest(bed, { iommu: true });
  const { domid } = d;
  const dom0 = (call: Call): number => hypercall(bed, bed.dom0, call).rc;
  dom0({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: 0x100, count: 8 } });
  const assigned = dom0({ op: 'assign_device', domid, sbdf: USB, flags: 0 });
  expect(assigned).toBe(0);
  const typeAt = (g: number): number => {
    const leaf = new Leaf();
    peekEntry(bed.h, d, g, leaf);
    return leaf.type;
  };
  return { bed, d, domid, dom0, typeAt };
}

const broken = (bed: ReturnType<typeof guestWithRegion>['bed']): string[] => [
  ...new Set(checkInvariants(bed.h).map(({ invariant }) => invariant)),
];

describe('a guest with reserved memory', () => {
  it('reads what firmware left there, by CPU and by device', () => {
    const { bed, d } = guestWithRegion();
    expect(hypercall(bed, d, { op: 'load', frames: { start: REGION, count: 2 } })).toMatchObject({
      tags: [firmwareTag(REGION), firmwareTag(REGION + 1)],
      faulted: 0,
    });
    const dma = new DmaThread(bed.h, 0);
    expect(dma.transaction(USB, REGION, 'r', 0)).toBe(0);
    expect(dma.tag).toBe(firmwareTag(REGION));
    expectSound(bed);
  });

  it('may not move a page there, nor give it up: refused, and nothing changes', () => {
    const { bed, d, domid, typeAt } = guestWithRegion();
    const move = { op: 'add_to_physmap', domid, space: physmapSpace.gmfn, idx: 0x100, gpfn: REGION, size: 1 } as const;
    expect(hypercall(bed, d, move).rc).toBe(-errno.EPERM);
    const extents = { start: REGION, count: 1 };
    expect(hypercall(bed, d, { op: 'decrease_reservation', domid, order: 0, extents }).rc).toBe(0);
    expect([typeAt(REGION), typeAt(0x100)]).toEqual([p2mType.mmioDirect, p2mType.ramRw]);
    expectSound(bed);
  });

  it('that populates it is crashed, and so is one whose device model maps another window over it', () => {
    const balloon = guestWithRegion();
    const extents = { start: REGION, count: 1 };
    const { domid } = balloon;
    hypercall(balloon.bed, balloon.d, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
    expect([balloon.d.crashed, balloon.typeAt(REGION)]).toEqual([true, p2mType.mmioDirect]);
    const window = guestWithRegion();
    window.dom0({ op: 'iomem_permission', domid: window.domid, firstMfn: 0x5000, nrMfns: 1, allow: true });
    const mapping = { firstGfn: REGION, firstMfn: 0x5000, nrMfns: 1, add: true };
    expect(window.dom0({ op: 'memory_mapping', domid: window.domid, ...mapping })).toBe(-errno.EPERM);
    expect(window.d.crashed).toBe(true);
  });
});

describe('before XSA-378', () => {
  it.each(['populate', 'move', 'give up', 'window'])('the entry is gone after: %s', (how) => {
    const { bed, d, domid, dom0, typeAt } = guestWithRegion({ specialEntries: 'replaceable' });
    const one = { order: 0, extents: { start: REGION, count: 1 } };
    const mapping = { firstGfn: REGION, firstMfn: 0x5000, nrMfns: 1, add: true };
    if (how === 'populate') hypercall(bed, d, { op: 'populate_physmap', domid, memFlags: 0, ...one });
    else if (how === 'give up') hypercall(bed, d, { op: 'decrease_reservation', domid, ...one });
    else if (how === 'move') {
      const space = physmapSpace.gmfn;
      expect(hypercall(bed, d, { op: 'add_to_physmap', domid, space, idx: 0x100, gpfn: REGION, size: 1 }).rc).toBe(0);
    } else {
      dom0({ op: 'iomem_permission', domid, firstMfn: 0x5000, nrMfns: 1, allow: true });
      expect(dom0({ op: 'memory_mapping', domid, ...mapping })).toBe(0);
    }
    const now = { populate: p2mType.ramRw, move: p2mType.ramRw, 'give up': p2mType.mmioDm, window: p2mType.mmioDirect };
    expect(typeAt(REGION)).toBe(now[how as keyof typeof now]);
    expect(d.crashed).toBe(false);
    expect(broken(bed)).toEqual(['identityEntryChangesOnlyThroughItsOwner']);
  });
});

describe('as in 2014, a reserved region outside the p2m', () => {
  it('with separate tables CPU and device disagree about an occupied page', () => {
    const bed = bootTestbed({
      policies: { ...defaultPolicies, iommuTables: 'separate', rmrrIdentity: 'iommu-only' },
      rmrrs,
      heapRanges: [{ start: 0x10, end: REGION }],
    });
    const d = makeGuest(bed, { iommu: true });
    const { domid } = d;
    const extents = { start: REGION, count: 2 };
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: USB, flags: 0 }).rc).toBe(0);
    const dma = new DmaThread(bed.h, 0);
    expect(dma.transaction(USB, REGION, 'w', 5)).toBe(0);
    expect(hypercall(bed, d, { op: 'load', frames: extents }).tags?.[0]).not.toBe(5);
    expect(broken(bed)).toEqual(['iommuMirrorsP2m']);
  });

  it('with shared tables nothing is mapped, and the device faults', () => {
    const { bed } = guestWithRegion({ iommuTables: 'shared', rmrrIdentity: 'iommu-only' });
    expect(new DmaThread(bed.h, 0).transaction(USB, REGION, 'w', 5)).toBe(5);
  });
});
