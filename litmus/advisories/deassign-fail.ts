// A domain with a device dies, and the device cannot be taken away. The tables that it walks are freed all the same.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { freeTablesWhateverHappened } from '../variants/destroy.ts';

const PAGE = 512;

export default litmus({
  title: 'The tables of a device that would not go are freed',
  source: 'Xen f591755823 (2021-06-25)',
  advisory: {
    id: 'DEASSIGN-fail',
    kind: 'sequential',
    grain: 'model',
    note: 'The fix trades a use after free for a leak: the domain stays a zombie.',
  },
  faults: ['ctxWrite'],
  start(s) {
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 1 }], devices: [NIC] });
    s.warm(NIC, PAGE);
    return { guest };
  },
  actors: {
    destroyer: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'destroydomain', domid: guest }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, PAGE, 'r') },
  },
  never: ['noContextPointsToFreedTable'],
  variants: {
    buggy: {
      what: 'as before the fix: the error is logged, the tables are freed',
      actors: { destroyer: { kind: 'software', does: (w, { guest }) => freeTablesWhateverHappened(w, guest) } },
      expect: violates('noContextPointsToFreedTable'),
    },
    fixed: { what: 'the tables stay, and with them the domain', expect: holds },
  },
});
