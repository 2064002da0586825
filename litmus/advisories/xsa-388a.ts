// A guest gives up two pages at an odd gfn: the last of a PoD superpage and the first of what lies behind it. The size of the
// first entry is taken for the size of the range, so a page of RAM is counted, and dropped, as PoD.
import { holds, litmus, violates } from '#explore/litmus';
import { decreaseReservationBefore } from '../variants/pod-decrease.ts';

export default litmus({
  title: 'PoD code trusts a misaligned range to be one entry',
  source: 'XSA-388; Xen 182c737b9b (2021-11-22)',
  advisory: { id: 'XSA-388a', kind: 'sequential', grain: 'model' },
  // A PoD superpage at 512, two pages of RAM behind it. Aligned requests are harmless in every variant.
  arguments: { gfn: [512, 1021, 1022, 1023, 1024], order: [0, 1, 2] },
  start: (s) => ({ guest: s.guest({ ram: [{ gfn: 1024, pages: 2 }], pod: [{ gfn: 512, pages: 512 }] }) }),
  actors: {
    vcpu: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: w.arg('gfn'), count: 1 };
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: w.arg('order'), extents });
      },
    },
  },
  never: ['podEntryCountMatchesTable', 'm2pIsInverseOfP2m'],
  variants: {
    buggy: {
      what: 'as before the fix: the range is looked at as if it were aligned to its order',
      actors: {
        vcpu: {
          kind: 'software',
          does: (w, { guest }) => void decreaseReservationBefore(w, guest, w.arg('gfn'), w.arg('order'), 'XSA-388a'),
        },
      },
      expect: violates('podEntryCountMatchesTable'),
    },
    fixed: { what: 'a misaligned range is cut into aligned chunks', expect: holds },
  },
});
