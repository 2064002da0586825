// A guest unmaps a page that another domain has given up meanwhile: the mapping held it. The CPUs are flushed, the reference goes, and
// with it the page; the flush of the IOTLB comes last.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { physmapSpace } from '#model/hypercall/calls';
import { removeForeignBeforeFlush } from '../variants/foreign-page.ts';

const PAGE = 512;
const WINDOW = 520;

export default litmus({
  title: 'A page goes back to the heap between the flush of the CPUs and that of the IOTLB',
  source: 'Xen 6718787797 (2019-10-02)',
  advisory: { id: 'ARM-free', kind: 'race', grain: 'model' },
  start(s) {
    const owner = s.guest({ ram: [{ gfn: PAGE, pages: 1 }] });
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 1 }], devices: [NIC] });
    const space = physmapSpace.gmfnForeign;
    const idxs = { start: PAGE, count: 1 };
    const gpfns = { start: WINDOW, count: 1 };
    const answer = s.call(0, { op: 'add_to_physmap_batch', domid: guest, space, foreignDomid: owner, idxs, gpfns });
    s.expect(answer.errs?.[0] ?? -1, 0, 'mapping a foreign page');
    s.warm(NIC, WINDOW);
    s.call(owner, { op: 'decrease_reservation', domid: owner, order: 0, extents: idxs });
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'remove_from_physmap', domid: guest, gpfn: WINDOW }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, WINDOW, 'w') },
  },
  never: ['noFrameFreedWhileAnyTlbHoldsIt', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: the reference is dropped before the IOTLB is flushed',
      actors: { vcpu: { kind: 'software', does: (w, { guest }) => removeForeignBeforeFlush(w, guest, WINDOW) } },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, shared tables': {
      what: 'the same where devices walk the tables of the CPUs, as on Arm',
      policies: { iommuTables: 'shared' },
      actors: { vcpu: { kind: 'software', does: (w, { guest }) => removeForeignBeforeFlush(w, guest, WINDOW) } },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: { what: 'CPUs, IOTLB, reference', expect: holds },
    'fixed, shared tables': {
      what: 'the same where devices walk the tables of the CPUs',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
  },
});
