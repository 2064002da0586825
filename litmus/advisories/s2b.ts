// A borrower's fault is being served: the lender's kernel looks the page up and lends it. Meanwhile the page is taken back.
import { type Actor, holds, litmus, violates } from '#explore/litmus';
import type { World } from '#explore/world';
import { LEND_check_sequence } from '#model/hypercall/lend-op';
import {
  backsObject,
  judgeWindow,
  type Lending,
  lend,
  reuse,
  revoke,
  sequenceOf,
  startLending,
  takeOut,
} from '../starts/lending.ts';

/** A sequence number, the walk of the page table, then the lending. */
const fault = (lendIt: (w: World, names: Lending, begun: number) => void): Actor<Lending> => ({
  kind: 'software',
  does(w, names) {
    const begun = sequenceOf(w, names);
    if (backsObject(w, names)) lendIt(w, names, begun);
    judgeWindow(w, names);
  },
});

export default litmus({
  title: 'A page is revoked while a fault that found it is in flight',
  source: 'revoking shared guest memory (xen-devel); the sequence of KVM and of interval notifiers',
  advisory: {
    id: 'S2b',
    kind: 'race',
    grain: 'model',
    note: 'Two wrong ways and a right one, one line apart. A number that wraps near the sign bit is a unit test of its own.',
  },
  start: (s): Lending => startLending(s, false),
  actors: {
    fault: fault((w, names, begun) => lend(w, names, LEND_check_sequence, begun)),
    notifier: {
      kind: 'software',
      does(w, names) {
        takeOut(w, names);
        revoke(w, names);
        reuse(w, names);
        judgeWindow(w, names);
      },
    },
  },
  never: ['mappedFrameHasCurrentSequence'],
  variants: {
    unchecked: {
      what: 'the page is lent whatever has happened since it was looked up',
      actors: { fault: fault((w, names) => lend(w, names, 0, 0)) },
      expect: violates('mappedFrameHasCurrentSequence'),
    },
    'checked too early': {
      what: 'the number is compared before the lock is taken',
      actors: {
        fault: fault((w, names, begun) => {
          if (sequenceOf(w, names) === begun) lend(w, names, 0, 0);
        }),
      },
      expect: violates('mappedFrameHasCurrentSequence'),
    },
    fixed: { what: 'the number is compared under the lock that revocations take', expect: holds },
  },
});
