// A guest copies through a grant that another guest passes on from a third. While the grant behind it is looked up no lock is held,
// and the guest in the middle changes the version of its grant table.
import { holds, litmus, violates } from '#explore/litmus';
import { DOMID_SELF } from '#model/frames/addresses';
import { gntcopy } from '#model/grant/status';
import { grant, granter, REF } from '../starts/grants.ts';
import { setVersionUncounted } from '../variants/grant-copy.ts';

const PAGE = 512;

export default litmus({
  title: 'The version of a grant table changes under an operation in two halves',
  source: 'XSA-501; Xen 96dfeb4177 (2026-07-28)',
  advisory: { id: 'XSA-501', kind: 'race', grain: 'model' },
  start(s) {
    const source = granter(s);
    const middle = granter(s, 2);
    const copier = s.guest({ ram: [{ gfn: 512, pages: 1 }] });
    grant(s, source, middle, PAGE);
    grant(s, middle, copier, 0, { domid: source, ref: REF });
    return { middle, copier };
  },
  actors: {
    copier: {
      kind: 'software',
      does(w, { middle, copier }) {
        const source = { sourceDomid: middle, sourceFrame: REF, sourceOffset: 0 };
        const dest = { destDomid: DOMID_SELF, destFrame: PAGE, destOffset: 0 };
        w.call(copier, { op: 'gnttab_copy', ops: [{ ...source, ...dest, length: 64, flags: gntcopy.sourceGref }] });
      },
    },
    version: {
      kind: 'software',
      does: (w, { middle }) => void w.call(middle, { op: 'gnttab_set_version', version: 1 }),
    },
  },
  never: ['pointerIntoPageDiesWithTheLock'],
  variants: {
    buggy: {
      what: 'nobody counts the operations that will go on with a status word',
      actors: { version: { kind: 'software', does: (w, { middle }) => setVersionUncounted(w, middle, 1) } },
      expect: violates('pointerIntoPageDiesWithTheLock'),
    },
    fixed: { what: 'the version stays while such an operation is under way', expect: holds },
  },
});
