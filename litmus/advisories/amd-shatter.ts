// One page of a superpage of I/O tables changes, so the superpage becomes a table. Linked before it is filled, the table has nothing for
// the other 511 pages for a while, and a device's fault is not replayed.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { splitLinkingFirst } from '../variants/io-entry.ts';

const SUPERPAGE = 512;

export default litmus({
  title: 'A superpage of I/O tables becomes an empty table first',
  source: 'Xen 2a758376f9 (2020-10-26)',
  advisory: { id: 'AMD-shatter', kind: 'race', grain: 'model' },
  start: (s) => ({ guest: s.guest({ ram: [{ gfn: SUPERPAGE, pages: 512 }], devices: [NIC] }) }),
  actors: {
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: SUPERPAGE, count: 1 } });
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, SUPERPAGE + 1, 'r', { fault: 'neighboursStayMapped' }) },
  },
  never: ['neighboursStayMapped'],
  variants: {
    buggy: {
      what: 'as before the fix: the new table is linked, then filled, then the change made',
      actors: {
        balloon: {
          kind: 'software',
          does(w, { guest }) {
            splitLinkingFirst(w, guest, SUPERPAGE);
            w.call(guest, {
              op: 'decrease_reservation',
              domid: guest,
              order: 0,
              extents: { start: SUPERPAGE, count: 1 },
            });
          },
        },
      },
      expect: violates('neighboursStayMapped'),
    },
    fixed: { what: 'the table is filled, then linked', expect: holds },
  },
});
