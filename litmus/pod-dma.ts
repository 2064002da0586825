// A guest built to populate on demand is given a GPU. Its driver programs the GPU with a page that its memory map calls RAM and
// that no CPU has touched: nothing is behind it, and a device cannot make Xen populate it.
import { holds, litmus, violates } from '#explore/litmus';
import { GPU } from '#explore/machine';

const PAGE = 600;

export default litmus({
  title: 'A GPU reaches a populate-on-demand page before any CPU',
  source: 'the report of the GPU that faulted at 7d0d6000 (seed 000); refused by Xen since ad4312d764',
  start(s) {
    const guest = s.guest({ iommu: true, pod: [{ gfn: 512, pages: 512 }], cache: 512 });
    return { guest };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does(w, { guest }) {
        w.call(0, { op: 'assign_device', domid: guest, sbdf: GPU, flags: 0 });
      },
    },
    gpu: {
      kind: 'hardware',
      does(w, { guest }) {
        // The driver programs what it has.
        if (w.ownerOf(GPU) === guest) w.dma(GPU, PAGE, 'w', { fault: 'dmaToGuestRamNeverFaults' });
      },
    },
  },
  never: ['dmaToGuestRamNeverFaults', 'podNeverWithDevice'],
  variants: {
    'allowed, as in 2014': {
      what: 'the device joins the domain and nobody asks about PoD',
      policies: { podWithPassthrough: 'allow' },
      expect: violates('dmaToGuestRamNeverFaults'),
    },
    'allowed, shared tables': {
      what: 'the same where devices walk the EPT',
      policies: { podWithPassthrough: 'allow', iommuTables: 'shared' },
      expect: violates('dmaToGuestRamNeverFaults'),
    },
    refused: {
      what: '-EXDEV while a PoD entry or cached page is left: what Xen does today',
      expect: holds,
    },
    'populate first': {
      what: 'every PoD page is populated before the device joins',
      policies: { podWithPassthrough: 'populate-first' },
      expect: holds,
    },
  },
});
