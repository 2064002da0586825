// One pCPU of a lending race (lending-race.ts).
import { workerData } from 'node:worker_threads';
import { Host } from '#model/host';
import type { Call } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { type RaceWork, raceWord } from './lending-race.ts';

const work = workerData as RaceWork; // written by runRace
const words = new Int32Array(work.control);
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: () => Atomics.add(words, raceWord.violations, 1),
});
const { window, pages, from } = work;

/** The call to its end, or null where it has to wait. */
function call(domid: number, c: Call): { rc: number; tags?: readonly number[]; faults?: unknown } | null {
  const domain = h.domain(domid);
  if (!domain) throw new Error(`no d${domid}`);
  let state: ContinuationState | null = null;
  for (;;) {
    const outcome = runCall(h, { domain, vcpu: work.cpu, preempt: () => false }, c, state);
    runQueuedFrees(h);
    if (outcome.end === 'done') return outcome.answer;
    if (outcome.end === 'blocked') return null;
    state = outcome.state;
  }
}

/** Until somebody borrows. */
function awaitBorrower(): void {
  while (Atomics.load(words, raceWord.running) === 0) Atomics.wait(words, raceWord.running, 0, 10);
}

/** A small generator, so that no run depends on a clock. */
let seed = work.cpu + 1;
const random = (below: number): number => {
  seed = (seed * 48_271) % 2_147_483_647;
  return seed % below;
};

function borrow(): void {
  Atomics.add(words, raceWord.running, 1);
  while (Atomics.load(words, raceWord.over) === 0) {
    const start = random(pages);
    const frames = { start: window + start, count: 1 + random(pages - start) };
    const answer = call(work.borrower, random(2) === 0 ? { op: 'load', frames } : { op: 'store', frames, tag: 7 });
    Atomics.add(words, answer ? raceWord.accesses : raceWord.faults, 1);
  }
}

/** Everything that a malicious borrower may ask of its window. */
function harass(): void {
  const { borrower: domid } = work;
  Atomics.add(words, raceWord.running, 1);
  while (Atomics.load(words, raceWord.over) === 0) {
    const gfn = window + random(pages);
    const extents = { start: gfn, count: 1 };
    call(domid, { op: 'decrease_reservation', domid, order: 0, extents });
    call(domid, { op: 'add_to_physmap', domid, space: 2, idx: gfn, gpfn: 0x300, size: 0 });
    call(domid, { op: 'remove_from_physmap', domid, gpfn: gfn });
    call(domid, { op: 'revoke', domid, first: gfn, count: 1, writeProtect: false });
    Atomics.add(words, raceWord.accesses, 1);
  }
}

/** A borrower that the operating system did not run meanwhile shows nothing, so a goal is waited for in rounds and not in time. */
function isOver(round: number): boolean {
  if (round < work.rounds) return false;
  return round >= 100 * work.rounds || work.goals.every((goal) => Atomics.load(words, raceWord[goal]) > 0);
}

/** Lets the others work for a moment; once only the goals are waited for, by leaving them the CPU. */
function pass(round: number, spins: number): void {
  if (round >= work.rounds) Atomics.wait(words, raceWord.over, 0, 1);
  else for (let spin = random(spins); spin > 0; spin--) Atomics.load(words, 0);
}

function lend(): void {
  const { lender, borrower: domid } = work;
  for (let i = 0; !isOver(i); i++) {
    const start = random(pages);
    const count = 1 + random(pages - start);
    const gfns = { start: from + start, count };
    call(lender, { op: 'lend', domid, first: window + start, gfns, flags: 0, sequence: 0 });
    pass(i, 3000);
    const revoked = call(lender, { op: 'revoke', domid, first: window + start, count, writeProtect: false });
    if (revoked?.rc !== 0) Atomics.add(words, raceWord.failures, 1);
    Atomics.add(words, raceWord.revoked, 1);
    const tag = 1000 + i;
    call(lender, { op: 'store', frames: gfns, tag });
    pass(i, 2000);
    const found = call(lender, { op: 'load', frames: gfns })?.tags ?? [];
    for (const now of found) if (now !== tag) Atomics.add(words, raceWord.canaries, 1);
  }
  Atomics.store(words, raceWord.over, 1);
}

if (work.role === 'borrower') borrow();
else if (work.role === 'hypercaller') harass();
else {
  awaitBorrower();
  lend();
}
