// One pCPU of a grant race (grant-race.ts).
import { workerData } from 'node:worker_threads';
import { gntmap } from '#model/grant/status';
import { Host } from '#model/host';
import type { AnswerOf, CallOf, OpName } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { type GrantRaceWork, grantRaceWord } from './grant-race.ts';

const work = workerData as GrantRaceWork; // written by runGrantRace
const words = new Int32Array(work.control);
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: () => Atomics.add(words, grantRaceWord.violations, 1),
});
const { front, back, table, firstRef, count, at } = work;

function call<N extends OpName>(domid: number, c: CallOf<N> & { op: N }): AnswerOf<N> {
  const domain = h.domain(domid);
  if (!domain) throw new Error(`no d${domid}`);
  let state: ContinuationState | null = null;
  for (;;) {
    const outcome = runCall(h, { domain, vcpu: work.cpu, preempt: () => false }, c, state);
    runQueuedFrees(h);
    if (outcome.end === 'done') return outcome.answer as AnswerOf<N>; // each handler answers in its op's shape
    if (outcome.end === 'blocked') throw new Error(`${c.op} is blocked`);
    state = outcome.state;
  }
}

let seed = work.cpu + 1;
const random = (below: number): number => {
  seed = (seed * 48_271) % 2_147_483_647;
  return seed % below;
};
const over = (): boolean => Atomics.load(words, grantRaceWord.over) !== 0;

/** Others that the operating system did not run meanwhile show nothing, so a goal is waited for in rounds and not in time. */
function isOver(round: number): boolean {
  if (round < work.rounds) return false;
  const { goals } = work;
  return round >= 100 * work.rounds || goals.length === 0 || goals.some((goal) => words[grantRaceWord[goal]] !== 0);
}

/** Lets the others work for a moment; once only the goals are waited for, by leaving them the CPU. */
function pass(round: number, spins: number): void {
  if (round >= work.rounds) Atomics.wait(words, grantRaceWord.over, 0, 1);
  else for (let spin = random(spins); spin > 0; spin--) over();
}

function grant(): void {
  for (let i = 0; !isOver(i); i++) {
    const n = random(count);
    const entry = { gfn: table, index: firstRef + n, version: 1 };
    const frames = { start: n, count: 1 };
    const rest = { start: 0, length: 0, transDomid: 0, transRef: 0 };
    call(front, { op: 'grant_entry_set', ...entry, flags: 1, domid: back, frame: n, ...rest });
    Atomics.add(words, grantRaceWord.granted, 1);
    pass(i, 4000);
    // Now and then the page is ballooned out while somebody may have it mapped, and another takes its place.
    if (random(4) === 0) {
      call(front, { op: 'decrease_reservation', domid: front, order: 0, extents: frames });
      call(front, { op: 'populate_physmap', domid: front, order: 0, memFlags: 0, extents: frames });
    }
    while (call(front, { op: 'grant_entry_end', ...entry }).rc !== 0) Atomics.add(words, grantRaceWord.busy, 1);
    call(front, { op: 'store', frames, tag: 1000 + i });
    pass(i, 2000);
    if (call(front, { op: 'load', frames }).tags?.[0] !== 1000 + i) Atomics.add(words, grantRaceWord.canaries, 1);
  }
  Atomics.store(words, grantRaceWord.over, 1);
}

function map(): void {
  while (!over()) {
    const flags = gntmap.host;
    const refs = Array.from({ length: 1 + random(count) }, () => random(count));
    const maps = refs.map((n, i) => ({ hostAddr: (at + i) * 4096, flags, ref: firstRef + n, domid: front }));
    const { results = [] } = call(back, { op: 'gnttab_map_grant_ref', ops: maps });
    const mapped = results.flatMap(({ status, handle }, i) => (status === 0 ? [{ gfn: at + i, handle }] : []));
    Atomics.add(words, grantRaceWord.refused, refs.length - mapped.length);
    Atomics.add(words, grantRaceWord.mapped, mapped.length);
    for (const { gfn } of mapped) call(back, { op: 'store', frames: { start: gfn, count: 1 }, tag: 7 });
    const ops = mapped.map(({ gfn, handle }) => ({ hostAddr: gfn * 4096, devBusAddr: 0, handle }));
    const { statuses = [] } = call(back, { op: 'gnttab_unmap_grant_ref', ops });
    if (statuses.some((status) => status !== 0)) throw new Error(`unmap: ${statuses.join()}`);
  }
}

function touch(): void {
  while (!over()) call(back, { op: 'store', frames: { start: at, count }, tag: 9 });
}

if (work.role === 'granter') grant();
else if (work.role === 'mapper') map();
else touch();
