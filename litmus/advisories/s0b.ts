// The same guest with its GPU already there: a vCPU touches the page for the first time while the GPU writes to it. Whether the guest
// boots depends on who comes first.
import { holds, litmus, violates } from '#explore/litmus';
import { GPU } from '#explore/machine';

const PAGE = 1;

export default litmus({
  title: 'A first touch by a CPU races with DMA to the same page',
  source: 'the GPU that faulted at 7d0d6000 (2014)',
  advisory: {
    id: 'S0b',
    kind: 'order',
    grain: 'model',
    note: 'The share of random schedules that break it is the share of boots that failed.',
  },
  start(s) {
    const guest = s.guest({ iommu: true, pod: [{ gfn: PAGE, pages: 1 }], cache: 1 });
    // Refused today: then the GPU is not the guest's.
    s.call(0, { op: 'assign_device', domid: guest, sbdf: GPU, flags: 0 });
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'touch', frames: { start: PAGE, count: 1 } }),
    },
    gpu: {
      kind: 'hardware',
      does(w, { guest }) {
        if (w.ownerOf(GPU) === guest) w.dma(GPU, PAGE, 'w', { fault: 'dmaToGuestRamNeverFaults' });
      },
    },
  },
  never: ['dmaToGuestRamNeverFaults'],
  variants: {
    buggy: {
      what: 'the device was given to a domain with pages that are not there',
      policies: { podWithPassthrough: 'allow' },
      expect: violates('dmaToGuestRamNeverFaults'),
    },
    fixed: {
      what: 'the device joins when every page is populated, in the IOMMU too',
      policies: { podWithPassthrough: 'populate-first' },
      expect: holds,
    },
    refused: { what: 'what Xen does: the device does not join', expect: holds },
  },
});
