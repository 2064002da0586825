// A process unmaps granted pages that a GPU still refers to. The notifier waits for the references, and whoever drops them needs the
// lock that the process holds meanwhile.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const PAGE = 3;
const GRANTER = 1;
/** The mapping's own reference. */
const OWN = 1;

const unreferenced = (p: Steps): boolean => p.lookRefs(PAGE) === OWN;
const unmapGrant = (p: Steps): void => void p.step('write', 'the grant is unmapped', () => p.put('mapped', 0));

export default stepProgram({
  title: 'gntdev and a GPU driver wait for each other',
  source: "revoking shared guest memory (xen-devel): 'led to deadlocks'; Linux' gntdev",
  advisory: {
    id: 'S2d',
    kind: 'order',
    grain: 'steps',
    why: 'it happens in the kernel of a guest, whose memory (guest/mm) is not that of the host',
    note: 'With the fix munmap may return while the granter still sees its page in use.',
  },
  locks: { mm: 'mutex' },
  words: { mapped: 1, removing: 0 },
  start(p) {
    p.frameAlloc(PAGE, GRANTER);
    p.refTake(PAGE, GRANTER); // the GPU's
  },
  actors: {
    process: {
      kind: 'software',
      does(p) {
        p.lock('mm');
        p.write('removing', 1);
        p.unlock('mm');
      },
    },
    driver: {
      kind: 'software',
      does(p) {
        p.lock('mm');
        p.refDrop(PAGE);
        p.unlock('mm');
      },
    },
    worker: {
      kind: 'software',
      does(p) {
        p.waitFor('pages to unmap that nobody refers to', () => p.look('removing') === 1 && unreferenced(p));
        unmapGrant(p);
      },
    },
  },
  never: ['noWaitForCycle'],
  invariants: {
    noGrantUnmappedUnderUse: 'a grant stays mapped while somebody refers to its page',
    grantIsUnmappedInTheEnd: 'a grant that was unmapped and that nobody refers to is gone',
  },
  always: {
    noGrantUnmappedUnderUse: (p) =>
      p.look('mapped') === 1 || unreferenced(p) || `the grant is gone, and its page has ${p.lookRefs(PAGE)} references`,
  },
  atRest: {
    grantIsUnmappedInTheEnd: (p) => p.look('mapped') === 0 || 'the grant is still mapped',
  },
  variants: {
    buggy: {
      what: 'the notifier callback waits until nobody refers to the page',
      actors: {
        process: {
          kind: 'software',
          does(p) {
            p.lock('mm');
            p.waitFor('references of the page to go', () => unreferenced(p));
            unmapGrant(p);
            p.unlock('mm');
          },
        },
        worker: { kind: 'software', does: () => {} },
      },
      expect: violates('noWaitForCycle'),
    },
    fixed: { what: 'the callback marks the pages, and a worker unmaps them when it can', expect: holds },
  },
});
