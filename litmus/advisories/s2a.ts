// Pages are lent to a borrower one after the other, under its p2m lock, while the lender's kernel wants one page back: its notifier
// must return soon, whatever the borrower does.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const BORROWER = 1;
const LENDER = 2;
/** Pages that are being lent, at gfns from 0 on; the page that is wanted back stands at gfn WANTED. */
const PAGES = 4;
const WANTED = 8;
const VCPU = 0;
/** Pages that a revocation may have to wait for. */
const BOUND = 1;

/** Under the lock: one page more or less is lent, and counted. */
function lendPage(p: Steps, g: number): void {
  p.p2mWrite(BORROWER, g, { frame: g });
  p.write('lent', p.read('lent') + 1);
}
function takeBack(p: Steps): void {
  p.p2mClear(BORROWER, WANTED);
  p.write('lent', p.read('lent') - 1);
  p.cpuFlush(BORROWER);
}

const lentPages = (p: Steps): number =>
  Array.from({ length: PAGES }, (_, g) => g).filter((g) => p.lookEntry(`p2m(${BORROWER})`, g).present).length;

export default stepProgram({
  title: 'A revocation waits behind a long hold of the p2m lock',
  source: "revoking shared guest memory (xen-devel): 'get_gfn locks the whole p2m'",
  advisory: {
    id: 'S2a',
    kind: 'race',
    grain: 'steps',
    why: 'waiting is counted in steps of others from the moment the notifier begins, and writers of the model’s lock have no turns',
    note: 'The answer is a time, not a crash: the scenarios of memory lending measure it for both policies of `lock`.',
  },
  locks: { 'p2m(d1)': 'mutex' },
  words: { waiting: 0, before: 0, lent: 1 },
  start(p) {
    for (let f = 0; f <= PAGES; f++) {
      p.frameAlloc(f, LENDER);
      p.putLent(f, BORROWER);
    }
    p.p2mWrite(BORROWER, WANTED, { frame: PAGES });
    p.tlbFill(VCPU, BORROWER, WANTED);
  },
  actors: {
    lend: {
      kind: 'software',
      does(p) {
        for (let g = 0; g < PAGES; g++) {
          p.waitFor('no revocation waits', () => p.look('waiting') === 0);
          p.lock('p2m(d1)');
          lendPage(p, g);
          p.unlock('p2m(d1)');
          p.yield();
        }
      },
    },
    revoke: {
      kind: 'software',
      does(p) {
        p.step('notifier', 'start', () => {
          p.put('before', lentPages(p));
          p.put('waiting', 1);
        });
        p.lock('p2m(d1)');
        takeBack(p);
        p.unlock('p2m(d1)');
        p.step('notifier', 'end', () => p.put('waiting', 0));
      },
    },
  },
  never: ['revokeIsBounded'],
  always: {
    revokeIsBounded: (p) =>
      p.look('waiting') === 0 ||
      lentPages(p) - p.look('before') <= BOUND ||
      `the revocation has waited for ${lentPages(p) - p.look('before')} pages so far`,
  },
  invariants: { lentPagesAreCounted: 'as many pages are counted as lent as there are entries' },
  atRest: {
    lentPagesAreCounted: (p) =>
      (lentPages(p) === PAGES && p.look('lent') === PAGES) ||
      `${p.look('lent')} of ${PAGES} pages are counted, ${lentPages(p)} are lent`,
    noAccessAfterRevokeReturns: (p) =>
      (!p.lookEntry(`p2m(${BORROWER})`, WANTED).present && p.lookTlb(VCPU, BORROWER, WANTED) === null) ||
      'the page that was wanted back can still be reached',
  },
  variants: {
    'whole operation': {
      what: 'the lock is held for all pages of the call',
      actors: {
        lend: {
          kind: 'software',
          does(p) {
            p.lock('p2m(d1)');
            for (let g = 0; g < PAGES; g++) lendPage(p, g);
            p.unlock('p2m(d1)');
          },
        },
      },
      expect: violates('revokeIsBounded'),
    },
    'page by page, no turns': {
      what: 'the lock is dropped after every page, and taken again though a revocation waits for it',
      actors: {
        lend: {
          kind: 'software',
          does(p) {
            for (let g = 0; g < PAGES; g++) {
              p.lock('p2m(d1)');
              lendPage(p, g);
              p.unlock('p2m(d1)');
              p.yield();
            }
          },
        },
      },
      expect: violates('revokeIsBounded'),
    },
    fixed: { what: 'page by page, and whoever revokes goes first', expect: holds },
  },
});
