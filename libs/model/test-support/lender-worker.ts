// One thread of the lender specs: a task of dom0's kernel, or the guest's vCPU.
import { workerData } from 'node:worker_threads';
import { migratePage } from '#model/guest/mm/migration';
import { swapOut, writeBack } from '#model/guest/mm/reclaim';
import { truncate } from '#model/guest/mm/unmap';
import { Host } from '#model/host';
import { installSeam } from '#model/shared-memory/step';
import { DirectPort, Stopped } from './direct-port.ts';
import { attachLender, type LenderWork, lenderWord, PAGES, WINDOW } from './lender-fixture.ts';

const work = workerData as LenderWork; // written by the fixture
const { lender, cpu, role } = work;
installSeam({ nowNs: () => Number(process.hrtime.bigint()) });
const words = new Int32Array(lender.control);
const stopped = (): boolean => Atomics.load(words, lenderWord.stop) !== 0;
const count = (word: keyof typeof lenderWord, amount = 1): void => void Atomics.add(words, lenderWord[word], amount);
const violation = ({ invariant }: { readonly invariant: string }): void =>
  count(invariant === 'noMappingWithStaleSequence' ? 'stale' : 'violations');
const h = new Host(lender.host, cpu, { printk: () => {}, violation });
const domain = (domid: number) => {
  const d = h.domain(domid);
  if (!d) throw new Error(`there is no d${domid}`);
  return d;
};
let random = work.seed;
const below = (n: number): number => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % n;
};

/** The guest's user space: writes, and reads what it wrote last. */
function playGuest(): void {
  const port = new DirectPort(h, domain(lender.backend.domid), stopped);
  const last = new Array<number>(PAGES).fill(0);
  while (!stopped()) {
    const i = below(PAGES);
    const frames = { start: WINDOW + i, count: 1 };
    if (below(2) === 0) {
      const tag = 1 + below(2 ** 20);
      count('injected', port.call({ op: 'store', frames, tag }).faulted ?? 0);
      last[i] = tag;
    } else if (port.call({ op: 'load', frames }).tags?.[0] !== last[i]) count('wrong');
    count('accesses');
  }
}

function playKernel(): void {
  const { mm, backend } = attachLender(h, domain(0), lender, cpu, violation, stopped);
  const roles = {
    serve: () => void backend.serveFaults(lender.sub, true),
    churn: () => void migratePage(mm, below(PAGES), below(2) === 0 ? 'ram' : 'vram'),
    'file-churn': () => {
      const what = below(16);
      if (what < 8) writeBack(mm, 0, PAGES);
      else if (what < 15) swapOut(mm, below(PAGES));
      else {
        truncate(mm, 0, PAGES - 1);
        truncate(mm, 0, PAGES);
      }
    },
  };
  try {
    while (!stopped() && role !== 'guest') {
      roles[role]();
      if (role === 'serve') continue;
      count('moves');
      // A kernel that did nothing else would leave no time to lend.
      if (below(4) === 0) Atomics.wait(words, lenderWord.idle, 0, 1);
    }
  } finally {
    count('lent', backend.lent);
    count('revoked', backend.revoked);
  }
}

count('ready');
Atomics.notify(words, lenderWord.ready);
try {
  if (role === 'guest') playGuest();
  else playKernel();
} catch (error) {
  if (!(error instanceof Stopped)) throw error;
}
