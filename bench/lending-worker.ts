// One vCPU of a borrower (bench/lending/stage.ts). `user`: uses the window, and stands still at a page that is not there;
// `asynchronous`: goes on with other work meanwhile; `hostile`: everything its kernel can ask of the window, without a pause.
import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { VirtualTime } from '#explore/virtual-time';
import { domainRecord } from '#model/domain/domain-record';
import { Host } from '#model/host';
import type { Call } from '#model/hypercall/calls';
import { type ContinuationState, type Outcome, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { eventsSeen } from '#model/lending/window';
import { Histogram } from '#report/histogram';
import { Meter } from './lending/meter.ts';
import { OWN, OWN_PAGES, type StageWork, stageWord, VCPU_DOUBLES, VCPUS, vcpuFigure } from './lending/stage.ts';

/** Pages that a program uses one after the other, and what it does with each, in virtual nanoseconds. */
const BURST = 16;
const USE_NS = 500;
const work = workerData as StageWork; // written by Stage
const words = new Int32Array(work.control);
process.once('uncaughtException', (error) => {
  writeSync(2, `${error.stack}\n`);
  Atomics.store(words, stageWord.failed, 1);
});
const figures = new Float64Array(work.figures).subarray(work.cpu * VCPU_DOUBLES, (work.cpu + 1) * VCPU_DOUBLES);
const stalls = new Histogram(figures.subarray(4));
const count = (name: keyof typeof vcpuFigure, by = 1): void => {
  const at = vcpuFigure[name];
  figures[at] = (figures[at] as number) + by;
};
const meter = new Meter();
const time = work.virtual
  ? new VirtualTime(work.virtual, VCPUS + 1, work.cpu, Object.values(work.shared.buffers), work.lock)
  : null;
if (time) meter.follow(time);
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: () => Atomics.add(words, stageWord.violations, 1),
});
const domain = h.domain(work.domid);
if (!domain) throw new Error(`there is no d${work.domid}`);
const d = domain;
const caller = { domain: d, vcpu: work.cpu - 1, preempt: () => false };
const deadline = new Float64Array(work.deadline);
const nowNs = (): number => time?.now ?? performance.now() * 1e6;
const over = (): boolean => (time ? time.now >= (deadline[0] as number) : Atomics.load(words, stageWord.stop) !== 0);

let seed = work.cpu;
const random = (below: number): number => {
  seed = (seed * 48_271) % 2_147_483_647;
  return seed % below;
};

function once(c: Call, state: ContinuationState | null): Outcome {
  const outcome = runCall(h, caller, c, state);
  runQueuedFrees(h);
  return outcome;
}

function call(c: Call): void {
  let state: ContinuationState | null = null;
  for (;;) {
    const outcome = once(c, state);
    if (outcome.end !== 'continue') return;
    state = outcome.state;
  }
}

/** Its own memory: other work. */
function workOn(): void {
  meter.inGuestMode = true;
  call({ op: 'touch', frames: { start: OWN + random(OWN_PAGES - BURST), count: BURST } });
  meter.inGuestMode = false;
  time?.pass(BURST * USE_NS);
  time?.turn();
  count('accesses', BURST);
}

/** Until something of the borrower's lending changed. */
function awaitLender(seen: number): void {
  const at = domainRecord.at.lendEvents;
  if (time) time.park(d.r.words, at, seen);
  else Atomics.wait(d.r.words, at, seen, 20);
}

function use(asynchronous: boolean): void {
  const frames = { frames: Array.from({ length: BURST }, () => work.window + random(work.pages)) };
  const c: Call = random(2) === 0 ? { op: 'touch', frames } : { op: 'store', frames, tag: 7 };
  let state: ContinuationState | null = null;
  let missing = -1;
  let stalled = 0;
  while (!over()) {
    const seen = eventsSeen(d);
    meter.inGuestMode = true;
    const outcome = once(c, state);
    meter.inGuestMode = false;
    if (outcome.end === 'done') break;
    state = outcome.state;
    if (outcome.end !== 'blocked') continue;
    // Another page was lent: this one is still out.
    if (state?.at !== missing) count('faults');
    missing = state?.at ?? 0;
    const from = nowNs();
    if (!asynchronous) {
      awaitLender(seen);
      stalled += nowNs() - from;
    } else while (!over() && eventsSeen(d) === seen) workOn();
  }
  if (stalled > 0) {
    stalls.record(stalled);
    count('stalledNs', stalled);
  }
  count('accesses', BURST);
  time?.pass(BURST * USE_NS);
  time?.turn();
}

/** Faults, maps and hypercalls. What would only end the borrower (populating a lent page is a domain crash) is left out. */
function harass(): void {
  const { domid } = work;
  const gfn = work.window + random(work.pages);
  const extents = { start: gfn, count: 1 };
  once({ op: 'store', frames: extents, tag: 9 }, null);
  call({ op: 'decrease_reservation', domid, order: 0, extents });
  const own = { start: OWN + BURST * work.cpu + random(BURST), count: 1 };
  call({ op: 'decrease_reservation', domid, order: 0, extents: own });
  call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: own });
  call({ op: 'add_to_physmap', domid, space: 2, idx: gfn, gpfn: own.start, size: 0 });
  call({ op: 'remove_from_physmap', domid, gpfn: gfn });
  call({ op: 'revoke', domid, first: gfn, count: 1, writeProtect: false });
  const side = {
    sourceDomid: 0x7ff0,
    sourceFrame: gfn,
    sourceOffset: 0,
    destDomid: 0x7ff0,
    destFrame: OWN,
    destOffset: 0,
  };
  call({ op: 'gnttab_copy', ops: [{ ...side, length: 8, flags: 0 }] });
  count('calls', 9);
  if (d.crashed) throw new Error('the borrower ended itself');
  time?.turn();
}

Atomics.add(words, stageWord.ready, 1);
Atomics.notify(words, stageWord.ready);
time?.join();
while (!over()) {
  if (work.role === 'hostile') harass();
  else use(work.role === 'asynchronous');
}
time?.leave();
