// A guest gives up a page where CPU and device have tables of their own, and the code that writes the CPU's does not write the
// device's.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { removeUnsynced } from '../variants/remove-page.ts';

const PAGE = 515;

export default litmus({
  title: 'Page tables of the CPU change, and nobody tells the IOMMU',
  source: 'Xen ee91a49a44 (2019-08-29), AMD NPT',
  advisory: {
    id: 'NPT-sync',
    kind: 'order',
    grain: 'model',
    note: 'The historic code was the AMD back end of the p2m; the row leaves out the same step of the one that is here.',
  },
  start(s) {
    return { guest: s.guest({ ram: [{ gfn: 512, pages: 8 }], devices: [NIC] }) };
  },
  actors: {
    guest: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, PAGE, 'w') },
  },
  never: ['iommuMirrorsP2m', 'noDmaToFreedFrame'],
  variants: {
    'buggy, the harm': {
      what: 'the entry of the IOMMU stays: a device writes to the free frame',
      actors: { guest: { kind: 'software', does: (w, { guest }) => removeUnsynced(w, guest, PAGE) } },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, at rest': {
      what: 'the same, judged by the tables alone',
      actors: { guest: { kind: 'software', does: (w, { guest }) => removeUnsynced(w, guest, PAGE) } },
      expect: violates('iommuMirrorsP2m'),
    },
    fixed: { what: 'a change of rights or frame is carried over to the IOMMU, and flushed there', expect: holds },
  },
});
