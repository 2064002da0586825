// A page is scrubbed and given to a guest. The zeroes are in the CPU's cache; a guest that runs with caches off reads memory, where
// what the old owner wrote still stands.
import { holds, violates } from '#explore/litmus';
import { XEN } from '#explore/paper/frames';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const PAGE = 3;
const NEW_OWNER = 2;
const SECRET = 77;

/** A read that goes past the caches, once the page is the guest's. */
function uncachedRead(p: Steps): void {
  p.step('guestAccess', `vCPU 0 of d${NEW_OWNER} reads frame ${PAGE}, caches off`, () => {
    if (p.lookOwner(PAGE) !== NEW_OWNER) return;
    const found = p.lookTag(PAGE, 'memory');
    p.require(
      found !== SECRET,
      'newOwnerReadsNothingOld',
      `d${NEW_OWNER} finds ${found} in frame ${PAGE}: the old owner's`,
    );
  });
}

function handOver(p: Steps): void {
  p.step('frameAlloc', `frame ${PAGE} for d${NEW_OWNER}`, () => p.putOwner(PAGE, NEW_OWNER));
}

export default stepProgram({
  title: 'A page is handed over before its zeroes have reached memory',
  source: 'XSA-364; Xen 3b1cc15f19 (2021-02-16), Arm',
  advisory: {
    id: 'XSA-364',
    kind: 'order',
    grain: 'steps',
    why: 'frames of the model have one copy of their contents',
  },
  nonCoherent: ['p2m(2)'],
  start(p) {
    p.frameAlloc(PAGE, XEN);
    p.putTag(PAGE, SECRET);
  },
  actors: {
    heap: {
      kind: 'software',
      does(p) {
        p.scrub(PAGE);
        p.frameWriteback(PAGE);
        handOver(p);
      },
    },
    guest: { kind: 'software', does: uncachedRead },
  },
  never: ['newOwnerReadsNothingOld'],
  variants: {
    'written back too early': {
      what: 'as before XSA-364: the page is written back to memory, then scrubbed in the cache',
      actors: {
        heap: {
          kind: 'software',
          does(p) {
            p.frameWriteback(PAGE);
            p.scrub(PAGE);
            handOver(p);
          },
        },
      },
      expect: violates('newOwnerReadsNothingOld'),
    },
    fixed: { what: 'scrubbed, written back, handed over', expect: holds },
  },
});
