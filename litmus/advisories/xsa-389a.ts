// Two pages are removed from the p2m by one call, and the second one fails for want of a table page. M2P has forgotten both; the
// table has not.
import { holds, litmus, violates } from '#explore/litmus';
import type { Mfn } from '#model/frames/addresses';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mRemovePage } from '#model/p2m/physmap';
import { removePageBefore389 } from '../variants/remove-entry.ts';

const FIRST = 512;

export default litmus({
  title: 'A removal that failed half way leaves M2P ahead of the p2m',
  source: 'XSA-389; Xen 74a11c43fd (2021-11-22)',
  advisory: { id: 'XSA-389a', kind: 'sequential', grain: 'model' },
  // Chunk by chunk of the entry.
  faults: ['p2mWrite', 'ptAlloc', 'ioWrite'],
  start(s) {
    const guest = s.guest({ iommu: true });
    const extents = { start: FIRST, count: 1 };
    s.call(0, { op: 'populate_physmap', domid: guest, order: 1, memFlags: 0, extents });
    return { guest, frame: peekEntry(s.host, s.domain(guest), FIRST, new Leaf()) };
  },
  actors: {
    remover: {
      kind: 'software',
      does: (w, { guest, frame }) => void p2mRemovePage(w.host, w.domain(guest), FIRST, frame as Mfn, 1),
    },
  },
  never: ['m2pIsInverseOfP2m'],
  variants: {
    buggy: {
      what: 'as before the fix: nobody looks at what is still mapped',
      actors: {
        remover: {
          kind: 'software',
          does: (w, { guest, frame }) => void removePageBefore389(w, guest, FIRST, frame as Mfn, 1),
        },
      },
      expect: violates('m2pIsInverseOfP2m'),
    },
    fixed: { what: 'where RAM is still mapped, M2P says so again', expect: holds },
  },
});
