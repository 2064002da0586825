// A guest that is populated on demand is given a GPU. Its driver writes the number of a page that it never touched into a descriptor;
// the GPU reads the descriptor and writes to the page.
import { holds, litmus, violates } from '#explore/litmus';
import { GPU } from '#explore/machine';

const DESCRIPTOR = 0;
const BUFFER = 1;

export default litmus({
  title: 'A GPU reaches a page before any CPU did',
  source: 'the GPU that faulted at 7d0d6000 (2014); refused by Xen since ad4312d764 (2022-05-02)',
  advisory: {
    id: 'S0a',
    kind: 'order',
    grain: 'model',
    note: 'A guest that is rebooted starts below its maximum again: populate on demand is back, and with it the fault.',
  },
  start(s) {
    const ram = [{ gfn: DESCRIPTOR, pages: 1 }];
    const guest = s.guest({ iommu: true, ram, pod: [{ gfn: BUFFER, pages: 1 }], cache: 1 });
    s.call(guest, { op: 'store', frames: { start: DESCRIPTOR, count: 1 }, tag: 0 });
    return { guest };
  },
  actors: {
    driver: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'store', frames: { start: DESCRIPTOR, count: 1 }, tag: BUFFER });
      },
    },
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: GPU, flags: 0 }),
    },
    gpu: {
      kind: 'hardware',
      does(w, { guest }) {
        if (w.ownerOf(GPU) !== guest) return;
        w.dma(GPU, DESCRIPTOR, 'r');
        if (w.tag === BUFFER) w.dma(GPU, BUFFER, 'w', { fault: 'dmaToGuestRamNeverFaults' });
      },
    },
  },
  never: ['dmaToGuestRamNeverFaults'],
  variants: {
    buggy: {
      what: 'the device joins the domain and nobody asks about pages that are not there',
      policies: { podWithPassthrough: 'allow' },
      expect: violates('dmaToGuestRamNeverFaults'),
    },
    fixed: { what: '-EXDEV while a PoD entry or cached page is left', expect: holds },
    'populated first': {
      what: 'the other way: every page is populated before the device joins',
      policies: { podWithPassthrough: 'populate-first' },
      expect: holds,
    },
  },
});
