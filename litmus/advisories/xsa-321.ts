// A guest gives up a page; its devices walk the tables of the CPUs, but not through the CPUs' caches. The cleared entry is in a cache
// line, the old one in memory: the unit is flushed, walks memory again, and finds the page that somebody else has by now.
import { holds, violates } from '#explore/litmus';
import type { Steps } from '#explore/paper/steps';
import { stepProgram } from '#explore/step-program';

const [GUEST, OTHER] = [1, 2];
const NIC = 0;
const FRAME = 3;
const GFN = 5;
const TABLE = `p2m(${GUEST})`;

function giveUp(p: Steps, writesBack: boolean): void {
  p.lock('p2m');
  p.p2mClear(GUEST, GFN);
  if (writesBack) p.cacheWriteback(TABLE, GFN);
  p.cpuFlush(GUEST);
  p.iotlbFlush(GUEST, GFN);
  p.unlock('p2m');
  p.frameFree(FRAME);
  p.frameAlloc(FRAME, OTHER);
}

export default stepProgram({
  title: 'A walker that does not snoop reads the old table',
  source: 'XSA-321; Xen c23274fd04 (2020-07-07)',
  advisory: {
    id: 'XSA-321',
    kind: 'order',
    grain: 'steps',
    why: 'the model has one copy of a table, which every walker sees: no caches between CPUs and memory',
  },
  locks: { p2m: 'mutex' },
  nonCoherent: [TABLE],
  start(p) {
    p.frameAlloc(FRAME, GUEST);
    p.p2mWrite(GUEST, GFN, { frame: FRAME, rights: 'rw' });
    p.cacheWriteback(TABLE, GFN);
    p.ctxWrite(NIC, { domain: GUEST, table: TABLE, did: GUEST });
  },
  actors: {
    vcpu: { kind: 'software', does: (p) => giveUp(p, true) },
    nic: { kind: 'hardware', does: (p) => void p.dma(NIC, GFN, 'w') },
  },
  never: ['dmaHitsOnlyFramesOfItsDomain'],
  variants: {
    buggy: {
      what: 'as before the fix: the entry is cleared and the unit flushed, the line never written back',
      actors: { vcpu: { kind: 'software', does: (p) => giveUp(p, false) } },
      expect: violates('dmaHitsOnlyFramesOfItsDomain'),
    },
    fixed: { what: 'the line is written back before the unit is flushed', expect: holds },
  },
});
