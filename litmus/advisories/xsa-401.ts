// A PV guest makes a page a page table while another of its vCPUs still holds a writable TLB entry for it. The type word looks the
// same before and after that vCPU mapped and unmapped the page, so comparing it shows nothing.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const GUEST = 1;
const PAGE = 3;
const GFN = 5;
const VCPU = 1;
const WRITABLE = 'writable';
const TABLE = 'page table';

/** The count of a page of type writable; -1: it may not change its type now. */
const readType = (p: Steps): number =>
  p.step('read', `type of frame ${PAGE}`, () => (p.lookType(PAGE).count > 0 ? -1 : p.lookType(PAGE).count)) ?? -1;

/** Nobody has counted it since: it is a page table now, not validated yet. */
const exchangeType = (p: Steps): boolean =>
  p.step('cmpxchg', `type of frame ${PAGE}: ${WRITABLE} → ${TABLE}`, () => {
    const now = p.lookType(PAGE);
    if (now.type !== WRITABLE || now.count !== 0) return false;
    p.putType(PAGE, TABLE, 1);
    return true;
  }) ?? false;

/** Through the stale entry, if nobody has flushed it. */
function writeLate(p: Steps): void {
  p.step('guestAccess', `vCPU ${VCPU} writes gfn ${GFN}`, () => {
    if (p.lookTlb(VCPU, GUEST, GFN) === null) return;
    const text = `vCPU ${VCPU} writes to frame ${PAGE}, a validated page table, through its TLB`;
    p.require(p.look('validated') === 0, 'noGuestWriteToAPageTable', text);
  });
}

/** As before the fix: what was flushed may be filled again before the exchange. */
function flushFirst(p: Steps): void {
  if (readType(p) < 0) return;
  p.cpuFlush(GUEST);
  if (exchangeType(p)) p.write('validated', 1);
}

export default stepProgram({
  title: 'A page becomes a page table under a writable TLB entry',
  source: 'XSA-401; Xen 8cc5036bc3 (2022-06-09), slip repaired by a9949efb28',
  advisory: {
    id: 'XSA-401',
    kind: 'race',
    grain: 'steps',
    why: 'the model has no type words of PV pages',
  },
  words: { validated: 0 },
  start(p) {
    p.frameAlloc(PAGE, GUEST);
    p.putType(PAGE, WRITABLE, 0);
  },
  actors: {
    pin: {
      kind: 'software',
      does(p) {
        if (readType(p) < 0 || !exchangeType(p)) return;
        p.cpuFlush(GUEST);
        p.write('validated', 1);
      },
    },
    writer: {
      kind: 'software',
      does(p) {
        if (!p.typeRef(PAGE, WRITABLE, 1)) return;
        p.step('tlbFill', `vCPU ${VCPU}, gfn ${GFN}`, () => p.putTlb(VCPU, GUEST, GFN, PAGE, 3));
        p.typeRef(PAGE, WRITABLE, -1); // unmapped; the flush is put off
        writeLate(p);
      },
    },
  },
  never: ['noWritableTlbEntryToAPageTable', 'noGuestWriteToAPageTable'],
  invariants: { noGuestWriteToAPageTable: 'a guest does not write to a page that is validated as a page table' },
  always: {
    noWritableTlbEntryToAPageTable: (p) =>
      p.look('validated') === 0 ||
      p.lookTlb(VCPU, GUEST, GFN) === null ||
      `frame ${PAGE} is a validated page table, and vCPU ${VCPU} can write to it through its TLB`,
  },
  atRest: {
    noWritableTlbEntryToAPageTable: (p) =>
      (p.lookType(PAGE).type === TABLE) === (p.look('validated') === 1) ||
      'the type was exchanged and nobody validated it',
  },
  variants: {
    'flush before the exchange': {
      what: 'as before XSA-401: stale entries are flushed first, then the type word is exchanged if it looks the same',
      actors: { pin: { kind: 'software', does: flushFirst } },
      expect: violates('noWritableTlbEntryToAPageTable'),
    },
    'the harm of it': {
      what: 'the same, until the guest has written to its page table',
      actors: { pin: { kind: 'software', does: flushFirst } },
      expect: violates('noGuestWriteToAPageTable'),
    },
    fixed: {
      what: 'the type is exchanged first, then the stale entries are flushed, then it is validated',
      expect: holds,
    },
  },
});
