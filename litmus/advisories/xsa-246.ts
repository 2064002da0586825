// A guest touches a page of a 1G PoD entry. It must be split first, and the pool of table pages is empty. The error of the split is
// not looked at, the entry is as it was, and the lookup starts again.
import { holds, litmus, violates } from '#explore/litmus';
import { emptyPool } from '../starts/paging-pool.ts';
import { populateBefore246 } from '../variants/pod-populate.ts';

const GIGABYTE = 2 ** 18;
const PAGE = GIGABYTE + 700;

export default litmus({
  title: 'A lookup that cannot split a PoD superpage tries for ever',
  source: 'XSA-246; Xen a1c6c67689 (2017-11-28)',
  advisory: { id: 'XSA-246', kind: 'sequential', grain: 'model' },
  start(s) {
    const guest = s.guest({ iommu: false });
    const extents = { start: GIGABYTE, count: 1 };
    const { rc } = s.call(0, { op: 'populate_physmap', domid: guest, order: 18, memFlags: 1 << 16, extents });
    s.expect(rc, 1, 'populating 1G on demand');
    s.call(0, { op: 'set_pod_target', domid: guest, targetPages: 16 });
    emptyPool(s, guest);
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'touch', frames: { start: PAGE, count: 1 } }),
    },
  },
  never: ['populateMakesProgressOrFails', 'callsMakeProgress'],
  variants: {
    buggy: {
      what: 'as before the fix: a split that failed is reported as done',
      actors: { vcpu: { kind: 'software', does: (w, { guest }) => populateBefore246(w, guest, PAGE) } },
      expect: violates('callsMakeProgress'),
    },
    fixed: { what: 'the lookup fails: for this access the page is a hole', expect: holds },
  },
});
