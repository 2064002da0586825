// A guest in PoD debt touches a PoD page. The cache is empty, so memory that is still zero is to be taken back; it lies in a
// superpage, and the pool has no table page to cut one page out of it. The page goes to the cache all the same, and from there to the
// other gfn: two gfns, one frame.
import { holds, litmus, violates } from '#explore/litmus';
import { emptyPool } from '../starts/paging-pool.ts';
import { reclaimAndPopulateBefore247 } from '../variants/pod-populate.ts';

const SUPERPAGE = 512;
const TOUCHED = 1030;

export default litmus({
  title: 'A page is taken back although it could not be unmapped',
  source: 'XSA-247; Xen 92790672de and a3d64de8e8 (2017-11-28)',
  advisory: { id: 'XSA-247', kind: 'sequential', grain: 'model' },
  start(s) {
    const guest = s.guest({
      iommu: false,
      ram: [{ gfn: SUPERPAGE, pages: 512 }],
      pod: [{ gfn: TOUCHED, pages: 2 }],
    });
    // Some page of it is in use, so that it cannot be taken back as a whole.
    s.call(guest, { op: 'store', frames: { start: SUPERPAGE + 511, count: 1 }, tag: 7 });
    emptyPool(s, guest);
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'touch', frames: { start: TOUCHED, count: 1 } }),
    },
  },
  never: ['cacheFramesAreMappedNowhere', 'm2pIsInverseOfP2m'],
  variants: {
    buggy: {
      what: 'as before the fix: nobody looks whether the page could be unmapped',
      actors: {
        vcpu: {
          kind: 'software',
          does: (w, { guest }) => reclaimAndPopulateBefore247(w, guest, [SUPERPAGE + 5, SUPERPAGE + 6], TOUCHED),
        },
      },
      expect: violates('cacheFramesAreMappedNowhere'),
    },
    fixed: {
      what: 'what cannot be unmapped is not taken; with nothing to serve the domain is out of PoD memory and crashed',
      expect: holds,
    },
  },
});
