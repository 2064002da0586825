// A guest balloons a page out while the mediator makes the shadow of an entry that names it; a job writes through that.
import { holds, litmus, violates } from '#explore/litmus';
import { gpuGuest, PAGE, runJob, sharedGpu, writeEntry } from '../starts/shared-gpu.ts';

export default litmus({
  title: 'A page is ballooned out that a shadow entry of the GPU still names',
  source: 'XenGT and PV-IOMMU (xen-devel, December 2014)',
  advisory: {
    id: 'S3b',
    kind: 'order',
    grain: 'model',
    note: 'With the reference the page stays allocated, without a gfn, until the mediator is told.',
  },
  machine: sharedGpu,
  start(s) {
    return { guest: gpuGuest(s) };
  },
  actors: {
    mediator: { kind: 'software', does: (w, { guest }) => writeEntry(w, guest) },
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
    gpu: { kind: 'hardware', does: (w, { guest }) => runJob(w, guest) },
  },
  never: ['shadowEntryHoldsItsFrame', 'noGpuReachIntoFreedFrame'],
  variants: {
    'buggy, the harm': {
      what: 'the frame is looked up, and nothing holds it: a job writes to a free page',
      policies: { mediated: 'A' },
      expect: violates('noGpuReachIntoFreedFrame'),
    },
    'buggy, at rest': {
      what: 'the same, judged by the shadow entry alone',
      policies: { mediated: 'A' },
      expect: violates('shadowEntryHoldsItsFrame'),
    },
    fixed: { what: 'the look-up takes a reference in the same step (foreign map)', expect: holds },
    'bus frames': { what: 'the same with PV-IOMMU', policies: { mediated: 'B' }, expect: holds },
  },
});
