// A domain with a device that has reserved memory dies. Unmapping that memory answers 0, which is taken for the end of the work: the
// device is believed gone, its context leads to the domain's tables, and those are freed.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, reservedPage } from '../starts/reserved-memory.ts';
import { takeBackStopping } from '../variants/assign.ts';

export default litmus({
  title: 'Taking a device back stops early and reports success',
  source: 'XSA-386; Xen 192aaf7e14 (2021-10-05)',
  advisory: { id: 'XSA-386', kind: 'sequential', grain: 'model' },
  machine: reservedPage,
  start(s) {
    const guest = s.guest({ ram: [NEIGHBOUR], devices: [NIC] });
    s.warm(NIC, NEIGHBOUR.gfn);
    return { guest };
  },
  actors: {
    destroyer: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'destroydomain', domid: guest }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, NEIGHBOUR.gfn, 'w') },
  },
  never: ['noContextPointsToFreedTable', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: the first result that is not “not found” ends it, 0 as well',
      actors: {
        destroyer: {
          kind: 'software',
          does(w, { guest }) {
            takeBackStopping(w, guest, NIC);
            w.call(0, { op: 'destroydomain', domid: guest });
          },
        },
      },
      expect: violates('noContextPointsToFreedTable'),
    },
    'buggy, a DMA': {
      what: 'the same, by what the device reaches',
      actors: {
        destroyer: {
          kind: 'software',
          does(w, { guest }) {
            takeBackStopping(w, guest, NIC);
            w.call(0, { op: 'destroydomain', domid: guest });
          },
        },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: { what: 'only an error ends it; the context changes, then the pages go', expect: holds },
  },
});
