// A PV guest maps a grant for its CPUs and its devices, and unmaps the two parts by two calls. How often the IOMMU has the frame is
// counted by handles.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const GUEST = 2;
const OWNER = 1;
const PAGE = 3;
/** Devices of a PV guest find a frame at its own number. */
const DFN = PAGE;

/** A part goes; true: it was the handle's last. */
const unmapPart = (p: Steps, part: string): boolean =>
  p.step('write', `${part} part unmapped`, () => {
    p.put(part, 0);
    return p.look('host') + p.look('device') === 0;
  }) ?? false;

/** One user less. */
function uncount(p: Steps): void {
  const left = p.count('users', -1);
  p.require(left >= 0, 'iommuUseCountEqualsLiveHandles', `frame ${PAGE} has ${left} users: Xen stops`);
  if (left === 0) p.ioClear(GUEST, DFN);
}

export default stepProgram({
  title: 'One unmap is counted twice',
  source: 'XSA-394; Xen 975a8fb45c (2022-01-25), introduced by 9781b51efd',
  advisory: {
    id: 'XSA-394',
    kind: 'sequential',
    grain: 'steps',
    why: 'the model maps no grants for the devices of PV guests, so it counts none',
  },
  words: { host: 1, device: 1, users: 1 },
  start(p) {
    p.frameAlloc(PAGE, OWNER);
    p.putLent(PAGE, GUEST);
    p.ioWrite(GUEST, DFN, { frame: PAGE });
  },
  actors: {
    guest: {
      kind: 'software',
      does(p) {
        for (const part of ['host', 'device']) if (unmapPart(p, part)) uncount(p);
      },
    },
  },
  never: ['iommuUseCountEqualsLiveHandles'],
  invariants: { unmappedPartsAreGone: 'a part that was unmapped is none of the handle’s any more' },
  atRest: {
    unmappedPartsAreGone: (p) =>
      p.look('host') + p.look('device') === 0 || 'both parts were unmapped, and one is there',
    iommuUseCountEqualsLiveHandles(p) {
      const handles = p.look('host') + p.look('device') > 0 ? 1 : 0;
      const mapped = p.lookEntry(`io(${GUEST})`, DFN).present;
      const told = `${p.look('users')} users are counted, ${handles} handles are live, the IOMMU has ${mapped ? 'the frame' : 'nothing'}`;
      return (p.look('users') === handles && mapped === handles > 0) || told;
    },
  },
  variants: {
    buggy: {
      what: 'every unmap counts, whichever part it was',
      actors: {
        guest: {
          kind: 'software',
          does(p) {
            for (const part of ['host', 'device']) {
              unmapPart(p, part);
              uncount(p);
            }
          },
        },
      },
      expect: violates('iommuUseCountEqualsLiveHandles'),
    },
    fixed: { what: 'what counts is the handle, when its last part goes', expect: holds },
  },
});
