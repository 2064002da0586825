// A guest copy takes the p2m lock of a guest to read, and takes it again deeper in the call. The lock is fair: a writer that came in
// between stops the second reader, who is the one it waits for.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const GUEST = 1;
const PAGE = 3;
const GFN = 5;

function copyPage(p: Steps): void {
  const seen = p.p2mRead(GUEST, GFN);
  p.require(seen !== null, 'readersSeeTheEntry', `the copy finds nothing at gfn ${GFN}`);
  if (seen !== null) p.xenAccess(seen.frame, GUEST);
}

function checkAccess(p: Steps): void {
  p.require(p.p2mRead(GUEST, GFN) !== null, 'readersSeeTheEntry', `the access check finds nothing at gfn ${GFN}`);
}

export default stepProgram({
  title: 'A read lock is taken twice while a writer waits',
  source: 'Xen 0012ae8afb (2018-03-16), arm: avoid nested p2m read locks in the access check',
  advisory: {
    id: 'ARM-rwlock',
    kind: 'race',
    grain: 'steps',
    why: "the model's p2m lock lets a reader that reads already in again, as x86's rules demand of no one",
  },
  locks: { 'p2m(d1)': 'fair' },
  start(p) {
    p.frameAlloc(PAGE, GUEST);
    p.p2mWrite(GUEST, GFN, { frame: PAGE });
  },
  actors: {
    copy: {
      kind: 'software',
      does(p) {
        p.lock('p2m(d1)', 'shared');
        copyPage(p);
        p.unlock('p2m(d1)');
        // The access check looks the entry up by itself.
        p.lock('p2m(d1)', 'shared');
        checkAccess(p);
        p.unlock('p2m(d1)');
      },
    },
    update: {
      kind: 'software',
      does(p) {
        p.lock('p2m(d1)');
        // Break before make: for a moment there is nothing.
        p.p2mClear(GUEST, GFN);
        p.cpuFlush(GUEST, GFN);
        p.p2mWrite(GUEST, GFN, { frame: PAGE, rights: 'r' });
        p.unlock('p2m(d1)');
      },
    },
  },
  never: ['noWaitForCycle', 'readersSeeTheEntry'],
  invariants: { readersSeeTheEntry: 'whoever reads the entry under the lock finds the page, whatever its rights' },
  atRest: {
    readersSeeTheEntry: (p) => p.lookEntry(`p2m(${GUEST})`, GFN).rights === 1 || 'the page is not read-only in the end',
  },
  variants: {
    nested: {
      what: 'as before: the access check locks again while the caller still reads',
      actors: {
        copy: {
          kind: 'software',
          does(p) {
            p.lock('p2m(d1)', 'shared');
            p.lock('p2m(d1)', 'shared');
            checkAccess(p);
            p.unlock('p2m(d1)');
            copyPage(p);
            p.unlock('p2m(d1)');
          },
        },
      },
      expect: violates('noWaitForCycle'),
    },
    fixed: { what: 'the lock is dropped before the check that takes it', expect: holds },
  },
});
