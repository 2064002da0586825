// One other vCPU of the guest in a contention experiment: it gives up a page, faults on the hole, gets a page back, uses it, and has
// the hypervisor translate two of its frames, over and over. Each of these but the use of the page needs the p2m lock.
import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { VirtualTime } from '#explore/virtual-time';
import { Host } from '#model/host';
import type { Call } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { Figures } from './contention/figures.ts';
import { BALLOON, BALLOON_PAGES, controlWord, MAX_OTHERS, mode, type OtherWork, phase } from './contention/layout.ts';
import { PACE_NS, Probe } from './contention/probe.ts';

const DOMID_SELF = 0x7ff0;
const work = workerData as OtherWork; // written by ContentionBed
const words = new Int32Array(work.control);
// The main thread sleeps in Atomics.wait and would not hear of it.
process.once('uncaughtException', (error) => {
  writeSync(2, `${error.stack}\n`);
  Atomics.store(words, controlWord.failed, 1);
  Atomics.notify(words, controlWord.running);
});
const figures = new Figures(work.figures, work.cpu);
const operation = (): number => Atomics.load(words, controlWord.operation);
const probe = new Probe(new Float64Array(work.work), figures, operation);
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: () => Atomics.add(words, controlWord.violations, 1),
});
const domain = h.domain(work.domid);
if (!domain) throw new Error(`there is no d${work.domid}`);
probe.watch(domain.locks.p2m);
const deadline = new Float64Array(work.deadline);
const virtual = new VirtualTime(work.virtual, MAX_OTHERS + 1, work.cpu, Object.values(work.shared.buffers), work.lock);
probe.follow(virtual);
const caller = { domain, vcpu: 0, preempt: () => false };

function call(c: Call, expected: number): void {
  let state: ContinuationState | null = null;
  for (;;) {
    const outcome = runCall(h, caller, c, state);
    runQueuedFrees(h);
    if (outcome.end === 'blocked') throw new Error(`${c.op} is blocked`);
    if (outcome.end === 'done') {
      if (outcome.answer.rc !== expected) throw new Error(`${c.op}: ${outcome.answer.rc}`);
      return;
    }
    state = outcome.state;
  }
}

const first = BALLOON + (work.cpu - 1) * BALLOON_PAGES;
const copy = {
  sourceDomid: DOMID_SELF,
  sourceFrame: first,
  sourceOffset: 0,
  destDomid: DOMID_SELF,
  destFrame: first + 1,
  destOffset: 0,
  length: 8,
  flags: 0,
};
let round = 0;

/** One call, and the guest's own work until the next: it is not all exits. */
function ask(c: Call, expected: number): void {
  call(c, expected);
  figures.count(operation(), 'ops');
  virtual.pass(PACE_NS);
}

function oneRound(): void {
  const start = first + 2 + (round++ % (BALLOON_PAGES - 2));
  const frames = { start, count: 1 };
  ask({ op: 'decrease_reservation', domid: DOMID_SELF, order: 0, extents: frames }, 1);
  ask({ op: 'touch', frames }, 0); // a hole: the fault goes to the emulator
  ask({ op: 'populate_physmap', domid: DOMID_SELF, order: 0, memFlags: 0, extents: frames }, 1);
  ask({ op: 'gnttab_copy', ops: [copy] }, 0);
}

function workInVirtualTime(): void {
  virtual.join();
  while (virtual.now < (deadline[0] as number)) oneRound();
  virtual.leave();
}

Atomics.add(words, controlWord.ready, 1);
Atomics.notify(words, controlWord.ready);
for (;;) {
  const now = Atomics.load(words, controlWord.phase);
  if (now === phase.end) break;
  if (now >= phase.run && Atomics.load(words, controlWord.active) >= work.cpu) {
    Atomics.add(words, controlWord.running, 1);
    Atomics.notify(words, controlWord.running);
    if (Atomics.load(words, controlWord.mode) === mode.virtual) workInVirtualTime();
    else while (Atomics.load(words, controlWord.phase) === now) oneRound();
    Atomics.sub(words, controlWord.running, 1);
    Atomics.notify(words, controlWord.running);
  }
  Atomics.wait(words, controlWord.phase, now);
}
