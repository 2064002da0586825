// Guest RAM lies where firmware reserved a page for the device that the guest is given. Its driver uses every page that its memory
// map calls RAM.
import { type Actor, holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { populateReserved, writeAndCompare } from '../starts/reserved-page.ts';

type Names = { readonly guest: number };

/** Builds the guest, then gives it the device. `hole`: a gfn that is no RAM in its memory map. */
const toolstack = (hole: number): Actor<Names> => ({
  kind: 'software',
  does(w, { guest }) {
    if (hole !== RESERVED) populateReserved(w, 0, guest);
    w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 });
  },
});

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
    toolstack: toolstack(-1),
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
      actors: { toolstack: toolstack(RESERVED + 1) },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    fixed: {
      what: 'the builder leaves a hole where any region is, and Xen maps it in the p2m',
      actors: { toolstack: toolstack(RESERVED) },
      expect: holds,
    },
    refused: { what: 'without a hole Xen does not give the device away', expect: holds },
  },
});
