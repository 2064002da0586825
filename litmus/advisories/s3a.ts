// Two guests' jobs run on one GPU, behind one IOMMU table: dom0's. Both use the same number for a page of theirs.
import { holds, litmus, violates } from '#explore/litmus';
import { gpuGuest, runJob, sharedGpu, writeEntry } from '../starts/shared-gpu.ts';

export default litmus({
  title: "Guest addresses of two guests stand behind one device's table",
  source: 'XenGT and PV-IOMMU (xen-devel, December 2014)',
  advisory: {
    id: 'S3a',
    kind: 'order',
    grain: 'model',
    note: 'Bus frame = machine frame passes as well; its price is that the GPU reaches all of RAM.',
  },
  machine: sharedGpu,
  start(s) {
    return { first: gpuGuest(s), second: gpuGuest(s) };
  },
  actors: {
    mediator: {
      kind: 'software',
      does: [(w, { first }) => writeEntry(w, first), (w, { second }) => writeEntry(w, second)],
    },
    gpu: { kind: 'hardware', does: (w, { first }) => runJob(w, first) },
  },
  never: ['noGpuReachIntoForeignFrame'],
  variants: {
    buggy: {
      what: 'shadow entries hold what the guest wrote, mapped at that number for the device',
      policies: { mediated: 'gpa' },
      expect: violates('noGpuReachIntoForeignFrame'),
    },
    fixed: { what: 'a fresh gfn of dom0 for each frame, mapped there as a foreign page', expect: holds },
    'bus frames': {
      what: 'a fresh bus frame above RAM for each frame (PV-IOMMU)',
      policies: { mediated: 'B' },
      expect: holds,
    },
  },
});
