// A third guest copies into a page that its granter has borrowed, while the lender takes that page back.
import { holds, litmus, violates } from '#explore/litmus';
import type { Setup } from '#explore/world';
import { DOMID_SELF } from '#model/frames/addresses';
import { gntcopy } from '#model/grant/status';
import { grant, REF, showTable } from '../starts/grants.ts';
import { type Lending, reuse, revoke, startLending, WINDOW } from '../starts/lending.ts';
import { copyByFrame, copyCounted, revokeAndWait } from '../variants/lent-copy.ts';

type Names = Lending & { readonly copier: number };

const FROM = 512;

function start(s: Setup): Names {
  const names = startLending(s, true);
  const copier = s.guest({ ram: [{ gfn: FROM, pages: 1 }] });
  showTable(s, names.borrower);
  grant(s, names.borrower, copier, WINDOW);
  return { ...names, copier };
}

export default litmus({
  title: 'A revocation returns while a third party still copies',
  source: 'revoking shared guest memory (xen-devel)',
  advisory: {
    id: 'S2c',
    kind: 'race',
    grain: 'model',
    note: 'The two fixes differ in who pays: refusing breaks some guests, waiting needs a bound that the borrower cannot stretch.',
  },
  start,
  actors: {
    copy: {
      kind: 'software',
      does(w, { copier, borrower }) {
        const source = { sourceDomid: DOMID_SELF, sourceFrame: FROM, sourceOffset: 0 };
        const dest = { destDomid: borrower, destFrame: REF, destOffset: 0 };
        w.call(copier, { op: 'gnttab_copy', ops: [{ ...source, ...dest, length: 64, flags: gntcopy.destGref }] });
      },
    },
    lender: {
      kind: 'software',
      does(w, names) {
        revoke(w, names);
        reuse(w, names);
      },
    },
  },
  never: ['noAccessAfterRevokeReturns'],
  variants: {
    buggy: {
      what: 'the copy looks the frame up, whatever its type, and writes to it',
      actors: { copy: { kind: 'software', does: copyByFrame } },
      expect: violates('noAccessAfterRevokeReturns'),
    },
    fixed: { what: 'hypercalls find a hole where memory is lent', expect: holds },
    counted: {
      what: 'the other way: copies are counted, and the revocation waits for them',
      actors: {
        copy: { kind: 'software', does: copyCounted },
        lender: {
          kind: 'software',
          does(w, names) {
            revokeAndWait(w, names);
            reuse(w, names);
          },
        },
      },
      expect: holds,
    },
  },
});
