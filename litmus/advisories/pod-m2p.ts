// A guest in PoD debt gives up a superpage, and its frames go to the PoD cache. The loop that clears their M2P entries clears the
// first one 512 times: the other frames keep a gfn that maps them no more. Nobody noticed for ten years.
import { holds, litmus, violates } from '#explore/litmus';
import { decreaseReservationBefore } from '../variants/pod-decrease.ts';

const SUPERPAGE = 512;

export default litmus({
  title: 'Frames taken for the PoD cache keep their M2P entries',
  source: 'Xen 8e4d495cb8 (2025-12-11), introduced by 3c352011c0 (2015-10)',
  advisory: { id: 'PoD-M2P', kind: 'sequential', grain: 'model' },
  arguments: { order: [1, 2, 9] },
  start: (s) => ({ guest: s.guest({ ram: [{ gfn: SUPERPAGE, pages: 512 }], pod: [{ gfn: 1024, pages: 512 }] }) }),
  actors: {
    vcpu: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: SUPERPAGE, count: 1 };
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: w.arg('order'), extents });
      },
    },
  },
  never: ['m2pIsInverseOfP2m'],
  variants: {
    buggy: {
      what: 'as before the fix: the index of the page is not added to the frame',
      actors: {
        vcpu: {
          kind: 'software',
          does: (w, { guest }) => void decreaseReservationBefore(w, guest, SUPERPAGE, w.arg('order'), 'PoD-M2P'),
        },
      },
      expect: violates('m2pIsInverseOfP2m'),
    },
    fixed: { what: 'every frame of the block loses its gfn before it is filed', expect: holds },
  },
});
