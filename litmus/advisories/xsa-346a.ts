// A guest moves a page onto a gfn that holds another one. Flushes of the IOTLB are put off to the end of such a batch, and with them
// that of the page which is displaced, freed, and given to somebody else before it.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { physmapSpace } from '#model/hypercall/calls';
import { moveOneBefore346 } from '../variants/range-move.ts';

const [FROM, TO] = [512, 513];
const space = physmapSpace.gmfnRange;

export default litmus({
  title: 'A displaced page is freed before the flush of the batch',
  source: 'XSA-346; Xen dea460d869 (2020-10-20)',
  advisory: {
    id: 'XSA-346a',
    kind: 'race',
    grain: 'model',
  },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: FROM, pages: 2 }], devices: [NIC] });
    s.warm(NIC, TO);
    return { guest };
  },
  actors: {
    mover: {
      kind: 'software',
      does: (w, { guest }) =>
        void w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: FROM, gpfn: TO, size: 1 }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, TO, 'w') },
  },
  never: ['noFrameFreedWhileIotlbHoldsIt', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: the flush of the displaced page is put off as well',
      actors: {
        mover: { kind: 'software', does: (w, { guest }) => moveOneBefore346(w, guest, FROM, TO, 'displaced') },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, shared tables': {
      what: 'the same where devices walk the EPT and its flushes are put off too (83432adeb8)',
      policies: { iommuTables: 'shared' },
      actors: {
        mover: { kind: 'software', does: (w, { guest }) => moveOneBefore346(w, guest, FROM, TO, 'displaced') },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: { what: 'whoever frees a page flushes it, whatever is put off', expect: holds },
    'fixed, shared tables': {
      what: 'the same where devices walk the EPT',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
  },
});
