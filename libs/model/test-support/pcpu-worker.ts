// One pCPU of the flush specs (pcpu-fixture.ts). The seam is where it stalls and where it is seen waiting.
import { workerData } from 'node:worker_threads';
import { Host } from '#model/host';
import { AccessOutcome, guestAccess } from '#model/p2m/guest-access';
import { guestRemovePage } from '#model/p2m/physmap';
import { installSeam, stepKind } from '#model/shared-memory/step';
import { type PcpuWork, pcpuWord, tell } from './pcpu-fixture.ts';

const work = workerData as PcpuWork; // written by the spec that starts this thread
const words = new Int32Array(work.control);
let accesses = 0;

/** The vCPU's second access finds its page in the TLB, and stalls with it. */
function standInGuestMode(kind: number): number {
  if (kind === stepKind.guestAccess && ++accesses === 2) {
    tell(words, 'stalled', 1);
    Atomics.wait(words, pcpuWord.stalled, 1);
  }
  return 0;
}

function watchReferences(kind: number): number {
  if (kind === stepKind.refDrop && Atomics.load(words, pcpuWord.stalled) === 1) {
    Atomics.add(words, pcpuWord.droppedEarly, 1);
  }
  return 0;
}

installSeam({
  step: work.job === 'access' ? standInGuestMode : watchReferences,
  park: (where, index, expected, ms) => {
    tell(words, 'remover', 1);
    Atomics.wait(where, index, expected, ms);
  },
});
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: () => Atomics.add(words, pcpuWord.violations, 1),
});
const d = h.domain(work.domid);
if (!d) throw new Error(`no d${work.domid}`);

if (work.job === 'access') {
  const out = new AccessOutcome();
  guestAccess(h, d, work.gfn, null, out);
  guestAccess(h, d, work.gfn, work.tag, out);
  tell(words, 'result', out.result);
} else {
  const rc = guestRemovePage(h, d, work.gfn);
  if (rc !== 0) throw new Error(`guest_remove_page: ${rc}`);
  tell(words, 'remover', 2);
}
