// Two vCPUs of a guest copy through one grant, whose owner has given the page up meanwhile: the first copy's reference is the last.
import { holds, litmus, violates } from '#explore/litmus';
import { DOMID_SELF, type Mfn } from '#model/frames/addresses';
import { pin } from '#model/grant/active-entry';
import { acquireGrant, releaseGrant } from '#model/grant/copy';
import { gntcopy } from '#model/grant/status';
import { grant, granter, REF } from '../starts/grants.ts';
import { releaseReferenceFirst } from '../variants/grant-copy.ts';

const PAGE = 512;

export default litmus({
  title: 'The reference of a page is dropped before the pin that stands for it',
  source: 'XSA-236; Xen e008f7619d (2017-10-24)',
  advisory: {
    id: 'XSA-236',
    kind: 'race',
    grain: 'model',
    note: 'Xen stops at an assertion there; the model reports the entry and refuses the second copy.',
  },
  start(s) {
    const owner = granter(s);
    const copier = s.guest({ ram: [{ gfn: 512, pages: 1 }] });
    grant(s, owner, copier, PAGE);
    const held = acquireGrant(s.host, s.domain(owner), REF, s.domain(copier), true, true);
    if (typeof held === 'number') throw new Error(`the first copy answered ${held}`);
    const extents = { start: PAGE, count: 1 };
    s.expect(s.call(owner, { op: 'decrease_reservation', domid: owner, order: 0, extents }).rc, 1, 'giving up');
    return { owner, copier, mfn: held.mfn };
  },
  actors: {
    first: {
      kind: 'software',
      does: (w, { owner, mfn }) => releaseGrant(w.host, w.domain(owner), REF, pin.hostRead, mfn as Mfn),
    },
    second: {
      kind: 'software',
      does(w, { owner, copier }) {
        const source = { sourceDomid: owner, sourceFrame: REF, sourceOffset: 0 };
        const dest = { destDomid: DOMID_SELF, destFrame: PAGE, destOffset: 0 };
        w.call(copier, { op: 'gnttab_copy', ops: [{ ...source, ...dest, length: 64, flags: gntcopy.sourceGref }] });
      },
    },
  },
  never: ['pinnedImpliesReferenced'],
  variants: {
    buggy: {
      what: 'a copy ends by putting the page, and then takes its pin back',
      actors: {
        first: {
          kind: 'software',
          does: (w, { owner, mfn }) => releaseReferenceFirst(w, owner, REF, pin.hostRead, mfn as Mfn),
        },
      },
      expect: violates('pinnedImpliesReferenced'),
    },
    fixed: { what: 'the pin is taken back first', expect: holds },
  },
});
