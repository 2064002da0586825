// Guest RAM lies where firmware reserved a page for the device that the guest is given. Its driver uses every page that its memory
// map calls RAM.
import { holds, litmus, violates } from '#explore/litmus';
import { NEIGHBOUR, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { buildAndAssign, writeAndCompare } from '../starts/reserved-page.ts';

type Names = { readonly guest: number };

export default litmus({
  title: 'A reserved region lies under guest RAM',
  source: 'mmio_hole_size against the GPU that faulted (2014)',
  advisory: {
    id: 'S0c',
    kind: 'order',
    grain: 'model',
    note: 'mmio_hole_size moves RAM away from below 4 GiB only: for a region elsewhere it does nothing.',
  },
  machine: { ...reservedPage, quarantine: 'none' },
  start(s): Names {
    return { guest: s.guest({ ram: [NEIGHBOUR], iommu: true }) };
  },
  actors: {
    toolstack: buildAndAssign(-1),
    nic: { kind: 'hardware', does: (w, { guest }) => writeAndCompare(w, guest) },
  },
  never: ['cpuAndDeviceAgreeOnGfn', 'iommuMirrorsP2m'],
  variants: {
    buggy: {
      what: 'reserved pages are mapped in the IOMMU alone, over whatever the guest has there',
      policies: { rmrrIdentity: 'iommu-only' },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    'a hole elsewhere': {
      what: 'the same, and the hole that was made does not cover the region',
      policies: { rmrrIdentity: 'iommu-only' },
      actors: { toolstack: buildAndAssign(RESERVED + 1) },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    fixed: {
      what: 'the builder leaves a hole where any region is, and Xen maps it in the p2m',
      actors: { toolstack: buildAndAssign(RESERVED) },
      expect: holds,
    },
    refused: { what: 'without a hole Xen does not give the device away', expect: holds },
  },
});
