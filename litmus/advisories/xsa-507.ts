// A guest in PoD debt gives up the gfn at which it had Xen's shared_info page mapped. The page looks like RAM in the p2m, so the
// collection of the debt takes it: Xen goes on writing to a page that the cache hands out as plain zeroed RAM.
import { holds, litmus, violates } from '#explore/litmus';
import { physmapSpace } from '#model/hypercall/calls';
import { decreaseReservationBefore } from '../variants/pod-decrease.ts';

const SHARED_INFO = 512;

export default litmus({
  title: "The collection of a PoD debt takes Xen's own page",
  source: 'XSA-507; Xen 372497ce42 (2026-07-28)',
  advisory: { id: 'XSA-507', kind: 'sequential', grain: 'model' },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 520, pages: 1 }], pod: [{ gfn: 514, pages: 2 }] });
    s.call(guest, {
      op: 'add_to_physmap',
      domid: guest,
      space: physmapSpace.sharedInfo,
      idx: 0,
      gpfn: SHARED_INFO,
      size: 0,
    });
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, {
          op: 'decrease_reservation',
          domid: guest,
          order: 0,
          extents: { start: SHARED_INFO, count: 1 },
        });
      },
    },
  },
  never: ['podCacheHoldsOnlyOrdinaryRam'],
  variants: {
    buggy: {
      what: 'as before the fix: whatever has the type of RAM is stolen',
      actors: {
        vcpu: {
          kind: 'software',
          does: (w, { guest }) => void decreaseReservationBefore(w, guest, SHARED_INFO, 0, 'XSA-507'),
        },
      },
      expect: violates('podCacheHoldsOnlyOrdinaryRam'),
    },
    fixed: { what: 'a special page is left to the generic removal, which only unhooks it', expect: holds },
  },
});
