// A guest in PoD debt gives up four pages of a superpage. The PoD cache has lists for single pages and for superpages, and none for
// what lies between.
import { holds, litmus, violates } from '#explore/litmus';
import { decreaseReservationBefore } from '../variants/pod-decrease.ts';

const SUPERPAGE = 512;

export default litmus({
  title: 'The PoD cache has no list for four pages',
  source: 'XSA-388; Xen 8ec13f68e0 (2021-11-22)',
  advisory: { id: 'XSA-388b', kind: 'sequential', grain: 'model' },
  arguments: { order: [0, 1, 2, 5, 8, 9] },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: SUPERPAGE, pages: 512 }], pod: [{ gfn: 1024, pages: 512 }] });
    // Not all zero: else the whole superpage would be reclaimed as one.
    s.call(guest, { op: 'store', frames: { start: SUPERPAGE + 511, count: 1 }, tag: 7 });
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: SUPERPAGE, count: 1 };
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: w.arg('order'), extents });
      },
    },
  },
  never: ['everyOrderHasAHome', 'hostDoesNotPanic', 'podCountMatchesLists'],
  variants: {
    buggy: {
      what: 'as before the fix: an order that no table entry has stops the host',
      actors: {
        vcpu: {
          kind: 'software',
          does: (w, { guest }) => void decreaseReservationBefore(w, guest, SUPERPAGE, w.arg('order'), 'XSA-388b'),
        },
      },
      expect: violates('hostDoesNotPanic'),
    },
    fixed: { what: 'orders below 9 are filed as single pages, those above as superpages', expect: holds },
  },
});
