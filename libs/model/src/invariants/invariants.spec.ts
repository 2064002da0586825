import { describe, expect, it } from 'vitest';
import { addVirtualGpu, testGpu } from '../../test-support/gpu-fixture.ts';
import { FIRST_REF, mapRef, showTable, writeEntry } from '../../test-support/grant-fixture.ts';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { domainFeature } from '../domain/domain-record.ts';
import { DOMID_IO, INVALID_MFN, type Mfn, sbdf } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { GpuState } from '../gpu/gpu-memory.ts';
import { makePte } from '../gpu/pte.ts';
import { giveHandle, setHandleFlags } from '../grant/maptrack.ts';
import { clearStatus, gtf } from '../grant/shared-entry.ts';
import { gntmap } from '../grant/status.ts';
import { defaultPolicies } from '../host-config.ts';
import { hvmMem, XENMEMF_populate_on_demand } from '../hypercall/calls.ts';
import { bank } from '../iommu/translation-cache.ts';
import { windowsOf } from '../lending/window.ts';
import { makeLeaf } from '../p2m/entry.ts';
import { p2mAddIdentityEntry } from '../p2m/identity.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import { checkInvariants, invariants } from './check.ts';

/** Where dom0 maps a page that the guest grants. */
const GRANT_GFN = 0x60;
/** Where the guest borrows pages. */
const WINDOW = 0x9000;

/** A guest with RAM, PoD entries and a cache, a device's tables, and a foreign mapping, a mapped grant, lent pages: something for every invariant. */
function richHost(): { bed: Testbed; d: Domain } {
  const bed = bootTestbed({
    policies: { ...defaultPolicies, iommuTables: 'separate' },
    rmrrs: [{ startPfn: 0x10000, endPfn: 0x10001, devices: [sbdf(0, 0, 2, 0)] }],
    busFrames: 64,
    mediatedGpus: [testGpu],
  });
  const d = makeGuest(bed, { iommu: true });
  const { domid } = d;
  hypercall(bed, bed.dom0, { op: 'set_pod_target', domid, targetPages: 700 });
  const memFlags = XENMEMF_populate_on_demand;
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 9, memFlags, extents: { start: 0, count: 4 } });
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid,
    order: 0,
    memFlags: 0,
    extents: { start: 4096, count: 20 },
  });
  hypercall(bed, d, { op: 'store', frames: { start: 0, count: 30 }, tag: 1 });
  hypercall(bed, bed.dom0, {
    op: 'add_to_physmap_batch',
    domid: 0,
    space: 4,
    foreignDomid: domid,
    idxs: { start: 4096, count: 2 },
    gpfns: { start: 0x40, count: 2 },
  });
  showTable(bed, d);
  writeEntry(bed, d, { ref: FIRST_REF, to: bed.dom0, gfn: 4110 });
  mapRef(bed, bed.dom0, d, FIRST_REF, GRANT_GFN);
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: 0,
    order: 0,
    memFlags: 0,
    extents: { start: 0x80, count: 2 },
  });
  hypercall(bed, bed.dom0, { op: 'lend_open', domid, first: WINDOW, count: 8, order: 0, onFailure: 0 });
  const gfns = { start: 0x80, count: 2 };
  hypercall(bed, bed.dom0, { op: 'lend', domid, first: WINDOW, gfns, flags: 0, sequence: 0 });
  const { driver } = addVirtualGpu(bed, d);
  driver.buildTable([4112, 4113, 4114, 4115], [4100, 4101]);
  driver.createRoot(0, 4112);
  driver.writeGlobal(3, 4102);
  driver.submit(0);
  const op = { kind: 'map_foreign_page' as const, bfn: bed.h.pvIommu.base, gfn: 4103, domid, flags: 11 };
  hypercall(bed, bed.dom0, { op: 'iommu_op', ops: [op, { ...op, bfn: op.bfn + 1, gfn: 4104 }] });
  return { bed, d };
}

const frameAt = (bed: Testbed, d: Domain, g: number): Mfn => peekEntry(bed.h, d, g, new Leaf());

/** Index in the slot array of the last-level p2m entry of a gfn. */
function slotIndex(bed: Testbed, root: number, g: number): number {
  const { slots } = bed.h.tables;
  let table = root;
  for (let level = 3; level > 0; level--) {
    table = Math.floor((slots[table * 512 + (Math.floor(g / 512 ** level) % 512)] as number) / 65_536);
  }
  return table * 512 + (g % 512);
}

const damage: Record<string, (bed: Testbed, d: Domain) => void> = {
  m2pIsInverseOfP2m: (bed, d) => {
    bed.h.frames.m2p[frameAt(bed, d, 4099)] = 77;
  },
  everyFrameHasOneOwner: (bed, d) => {
    Atomics.add(bed.h.frames.count, frameAt(bed, d, 4099), 1);
  },
  totPagesMatchOwnedFrames: (_bed, d) => {
    d.r.totPages++;
  },
  leafIsAligned: (bed, d) => {
    const table = slotIndex(bed, d.r.p2mRoot, 4099);
    const { slots } = bed.h.tables;
    // A 2M leaf of an unaligned frame where a hole was, in the table one level up.
    let up = d.r.p2mRoot;
    for (let level = 3; level > 1; level--) up = Math.floor((slots[up * 512] as number) / 65_536);
    slots[up * 512 + 30] = makeLeaf(
      Math.floor((slots[table] as number) / 65_536) as Mfn,
      1,
      p2mType.ramRw,
      p2mAccess.rwx,
    );
  },
  noP2mLeafToFreeFrame: (bed, d) => {
    const m = frameAt(bed, d, 4099);
    bed.h.frames.count[m] = 0;
  },
  noTlbEntryToFreeFrame: (bed, d) => {
    hypercall(bed, d, { op: 'touch', frames: { start: 4100, count: 1 } });
    bed.h.tlbs.fill(0, d.slot, 4100, makeLeaf(frameAt(bed, bed.dom0, 0x40) + 50_000, 0, p2mType.ramRw, p2mAccess.rwx));
  },
  foreignCountMatchesLeaves: (bed) => {
    bed.dom0.r.nrForeign = 1;
  },
  ioreqCountMatchesLeaves: (_bed, d) => {
    d.r.ioreqEntryCount = 1;
  },
  noLeafAboveMaxMappedPfn: (_bed, d) => {
    d.r.maxMappedPfn = 4100;
  },
  leafRightsFollowType: (bed, d) => {
    const index = slotIndex(bed, d.r.p2mRoot, 4099);
    const { slots } = bed.h.tables;
    slots[index] = (slots[index] as number) + (p2mType.ramLogdirty << 4);
  },
  validLeafNamesAFrame: (bed, d) => {
    bed.h.tables.slots[slotIndex(bed, d.r.p2mRoot, 4099)] = makeLeaf(INVALID_MFN, 0, p2mType.ramRw, p2mAccess.rwx);
  },
  leafHasOneMemoryType: (bed, d) => {
    // A page of Xen's inside a superpage of the guest.
    bed.h.frames.setFlag(frameAt(bed, d, 3), frameFlag.special);
  },
  noWriteUnseenByLogDirty: (_bed, d) => {
    d.r.logDirty = 1;
  },
  logDirtyNeverWithDevice: (_bed, d) => {
    d.r.deviceCount = 1;
    d.r.globalLogdirty = 1;
  },
  podEntryCountMatchesTable: (_bed, d) => {
    d.r.podEntryCount--;
  },
  podCountMatchesLists: (_bed, d) => {
    d.r.podCount++;
  },
  podCacheHoldsOnlyOrdinaryRam: (bed, d) => {
    bed.h.frames.setFlag(d.podSingle.first as Mfn, frameFlag.special);
  },
  cacheFramesAreMappedNowhere: (bed, d) => {
    bed.h.frames.setFlag(frameAt(bed, d, 4099), frameFlag.podCache);
  },
  podNeverWithDevice: (_bed, d) => {
    d.r.deviceCount = 1;
  },
  noIommuMappingForPodGfn: (bed, d) => {
    // The CPU's entry becomes PoD behind the IOMMU's back.
    bed.h.tables.slots[slotIndex(bed, d.r.p2mRoot, 4099)] = makeLeaf(
      INVALID_MFN,
      0,
      p2mType.populateOnDemand,
      p2mAccess.rwx,
    );
  },
  iommuMirrorsP2m: (bed, d) => {
    bed.h.tables.slots[slotIndex(bed, d.r.iommuRoot, 4100)] = 0;
  },
  noIommuLeafToFreeFrame: (bed, d) => {
    const index = slotIndex(bed, d.r.iommuRoot, 4100);
    const { slots } = bed.h.tables;
    slots[index] = (slots[index] as number) + 40_000 * 65_536;
  },
  noIotlbEntryToFreeFrame: (bed, d) => {
    const { cache } = bed.h.iommu.units[0] as (typeof bed.h.iommu.units)[number];
    cache.fill(0, d.domid, 4100, makeLeaf(60_000, 0, 0, p2mAccess.rwx), 0, cache.sequence);
  },
  iotlbMatchesTables: (bed, d) => {
    const { cache } = bed.h.iommu.units[0] as (typeof bed.h.iommu.units)[number];
    const m = peekEntry(bed.h, d, 4100, new Leaf());
    cache.fill(0, d.domid, 4101, makeLeaf(m, 0, 0, p2mAccess.rwx), 0, cache.sequence);
  },
  allRequesterIdsShareOneOwner: (bed, d) => {
    bed.h.iommu.write(0, 'owner', d.domid + 1);
  },
  reservedRegionCountsMatchDevices: (_bed, d) => {
    d.r.identityMaps.set([0x10000, 0x10001, p2mAccess.rw, 1, 0]);
    d.r.identityMapCount = 1;
  },
  identityEntryChangesOnlyThroughItsOwner: (_bed, d) => {
    d.r.identityMaps.set([0x10000, 0x10001, p2mAccess.rw, 1, 2]);
    d.r.identityMapCount = 1;
  },
  noFrameWritableByTwoGuests: (bed, d) => {
    for (const { domid, r } of [d, makeGuest(bed, { iommu: true })]) {
      hypercall(bed, bed.dom0, { op: 'iomem_permission', domid, firstMfn: 0x10000, nrMfns: 2, allow: true });
      const window = { firstGfn: 0x10000, firstMfn: 0x10000, nrMfns: 2 };
      hypercall(bed, bed.dom0, { op: 'memory_mapping', domid, ...window, add: true });
      r.identityMaps.set([0x10000, 0x10001, p2mAccess.rw, 1, 2]);
      r.identityMapCount = 1;
    }
  },
  reservedPagesMappedExactlyWhileOwned: ({ h }, d) => {
    p2mAddIdentityEntry(h, d, 0x10000, p2mAccess.rw, 0);
  },
  noContextPointsToFreedTable: ({ h }) => {
    const { contexts } = h.iommu;
    contexts[0] = ((contexts[0] as number) % 2 ** 24) + (h.tables.pages - 1) * 2 ** 24;
  },
  ioWalkDepthMatchesTableDepth: ({ h }) => {
    h.iommu.contexts[0] = (h.iommu.contexts[0] as number) - (1 << 4);
  },
  quarantinedDeviceKeepsItsReservedPages: (bed) => {
    bed.h.iommu.write(0, 'owner', DOMID_IO + 1);
    bed.h.iommu.contexts[0] = 0;
  },
  contiguityMarkersTrue: (bed, d) => {
    const index = slotIndex(bed, d.r.iommuRoot, 4112);
    const { slots } = bed.h.tables;
    slots[index] = (slots[index] as number) + (3 << 4);
  },
  freeTablesAreEmpty: (bed) => {
    const { tables } = bed.h;
    const m = bed.h.heap.alloc(0) as Mfn;
    const table = tables.alloc(tableUse.p2m, 0, m);
    tables.free(table as TableIndex);
    bed.h.heap.free(m, 0);
    tables.slots[table * SLOTS_PER_TABLE + 5] = 3;
  },
  everyTableIsReachableOnce: (bed, d) => {
    const { slots } = bed.h.tables;
    slots[d.r.p2mRoot * 512 + 9] = slots[d.r.p2mRoot * 512] as number;
  },
  pagingPoolMatchesTables: (_bed, d) => {
    d.r.poolTotal--;
  },
  grantPinsMatchHandles: (bed) => {
    const t = bed.h.grants.of(bed.dom0);
    setHandleFlags(t, 1, gntmap.host | gntmap.readonly);
  },
  grantMarksMatchPins: (bed, d) => {
    clearStatus(bed.h.grants.of(d), FIRST_REF, gtf.reading);
  },
  pinnedImpliesReferenced: (bed, d) => {
    bed.h.frames.count[frameAt(bed, d, 4110)] = 0;
  },
  handleFreedOnce: (bed) => {
    for (let i = 0; i < 2; i++) giveHandle(bed.h, bed.dom0, 1);
  },
  grantLeavesMatchHandles: (bed) => {
    bed.dom0.r.nrGrantLeaves++;
  },
  oneBusFrameNamesOneFrame: (bed) => {
    bed.h.pvIommu.clear(bed.h.pvIommu.base);
  },
  busFrameHoldsItsFrame: (bed, d) => {
    bed.h.frames.count[frameAt(bed, d, 4104)] = 0;
  },
  busTranslationsAreFlushed: (bed, d) => {
    const [unit] = bed.h.iommu.units;
    const stale = makeLeaf(frameAt(bed, d, 4104), 0, p2mType.ramRw, p2mAccess.rwx);
    unit?.cache.fill(bank.leaf4k, bed.dom0.domid, bed.h.pvIommu.base, stale, 0, unit.cache.sequence);
  },
  shadowEntryHoldsItsFrame: (bed, d) => {
    bed.h.frames.setOwner(frameAt(bed, d, 4100), bed.dom0.domid);
  },
  shadowAgreesWithGuestTable: (bed, d) => {
    bed.h.gpus.contents.write(frameAt(bed, d, 4115), 9, makePte(4105, 3));
  },
  trappedTablesAreIoreqPages: (bed, d) => {
    hypercall(bed, bed.dom0, { op: 'set_mem_type', domid: d.domid, memType: hvmMem.ramRw, first: 4115, count: 1 });
  },
  globalEntriesLieInOneSlice: (bed) => {
    (bed.h.gpus.all[0] as GpuState).ggtt[testGpu.gmPages - 1] = makePte(5, 3);
  },
  lentLeavesMatchWindows: (_bed, d) => {
    d.r.nrLent++;
  },
  lentFrameBelongsToLender: (_bed, d) => {
    const [window] = windowsOf(d);
    window?.remove();
    window?.open(WINDOW, 8, 0, d, 0);
  },
  noLentFrameInIommu: (_bed, d) => {
    d.r.features |= domainFeature.hapPtShare;
  },
  noTlbEntryAfterRevoke: (bed, d) => {
    hypercall(bed, d, { op: 'touch', frames: { start: WINDOW, count: 1 } });
    bed.h.tlbs.fill(0, d.slot, WINDOW + 5, makeLeaf(frameAt(bed, bed.dom0, 0x80), 0, p2mType.lent, p2mAccess.rw));
  },
  claimsWithinFree: (_bed, d) => {
    d.r.outstandingPages = 5;
  },
  noLockHeldAtSafepoint: (bed) => {
    bed.h.domctlLock.lock();
  },
};

describe('invariants', () => {
  it('all hold on a host with RAM, PoD, separate tables and foreign mappings', () => {
    const { bed } = richHost();
    expect(checkInvariants(bed.h)).toEqual([]);
  });

  for (const { name } of invariants) {
    it(`${name} notices when it is broken`, () => {
      const { bed, d } = richHost();
      expectSound(bed);
      const harm = damage[name];
      if (!harm) throw new Error(`no damage known for ${name}`);
      harm(bed, d);
      expect(checkInvariants(bed.h).map((v) => v.invariant)).toContain(name);
    });
  }

  it('a 16 GiB host with a 4 GiB guest is clean, mapped by 4K in p2m and IOMMU', () => {
    const bed = bootTestbed({
      frames: 2 ** 22,
      ept: { superpage2m: false, superpage1g: false },
      policies: { ...defaultPolicies, iommuTables: 'separate', iommuSuperpages: 'off' },
    });
    const pages = 2 ** 20;
    const d = makeGuest(bed, { iommu: true, maxPages: pages, poolPages: 4096 });
    const extents = { start: 0, count: pages / 512 };
    expect(
      hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 9, memFlags: 0, extents }).rc,
    ).toBe(extents.count);
    expect(checkInvariants(bed.h)).toEqual([]);
  });
});
