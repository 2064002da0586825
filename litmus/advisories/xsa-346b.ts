// A guest moves a page; the flush of its old place is put off to the end of the batch. Another vCPU gives the page up at its new place,
// which is flushed as it should be. The old place is cached still.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { physmapSpace } from '#model/hypercall/calls';
import { moveOneBefore346 } from '../variants/range-move.ts';

const [FROM, TO] = [512, 513];
const space = physmapSpace.gmfnRange;

export default litmus({
  title: 'A moved page is freed at its new place while the old one is cached',
  source: 'XSA-346; Xen 5777a3742d (2020-10-20), its array bound by 9b156bcc3f (XSA-355)',
  advisory: { id: 'XSA-346b', kind: 'race', grain: 'model' },
  start(s) {
    // The third page keeps the tables: a table that empties is flushed with everything of the domain.
    const guest = s.guest({
      ram: [
        { gfn: FROM, pages: 1 },
        { gfn: TO + 1, pages: 1 },
      ],
      devices: [NIC],
    });
    s.warm(NIC, FROM);
    return { guest };
  },
  actors: {
    mover: {
      kind: 'software',
      does: (w, { guest }) =>
        void w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: FROM, gpfn: TO, size: 1 }),
    },
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: TO, count: 1 } });
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, FROM, 'w') },
  },
  never: ['noFrameFreedWhileIotlbHoldsIt', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: nobody holds on to the page until its old place is flushed',
      actors: { mover: { kind: 'software', does: (w, { guest }) => moveOneBefore346(w, guest, FROM, TO, 'moved') } },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, shared tables': {
      what: 'the same where devices walk the EPT and its flushes are put off too (83432adeb8)',
      policies: { iommuTables: 'shared' },
      actors: { mover: { kind: 'software', does: (w, { guest }) => moveOneBefore346(w, guest, FROM, TO, 'moved') } },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: { what: 'a reference of each moved page until the old places are flushed', expect: holds },
    'fixed, shared tables': {
      what: 'the same where devices walk the EPT',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
  },
});
