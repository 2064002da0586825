// One CPU of a race of calls (call-race.ts).
import { parentPort, workerData } from 'node:worker_threads';
import { Host, type Violation } from '#model/host';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { type CallRaceWork, type CpuReport, callRaceWord } from './call-race.ts';

const { shared, cpu, plays, rounds, control } = workerData as CallRaceWork; // written by raceCalls
const words = new Int32Array(control);
const violations: Violation[] = [];
const h = new Host(shared, cpu, { printk: () => {}, violation: (v) => violations.push(v) });
const answers: Record<string, number> = {};

function note(what: string): void {
  answers[what] = (answers[what] ?? 0) + 1;
}

/** Every call is cut at every check: other CPUs come in between. */
function playOnce(): void {
  for (const call of plays.calls) {
    const domain = h.domain(plays.domid);
    if (!domain) {
      note('gone');
      return;
    }
    let state: ContinuationState | null = null;
    for (;;) {
      const outcome = runCall(h, { domain, vcpu: 0, preempt: () => true }, call, state);
      runQueuedFrees(h);
      if (outcome.end === 'done') {
        note(`${call.op} ${outcome.answer.rc}`);
        break;
      }
      if (outcome.end === 'blocked') {
        note(`${call.op} blocked`);
        break;
      }
      state = outcome.state;
    }
  }
}

let played = 0;
Atomics.add(words, callRaceWord.started, 1);
if (cpu === 0) {
  while (Atomics.load(words, callRaceWord.started) < 2) Atomics.wait(words, callRaceWord.started, 1, 10);
  for (; played < rounds; played++) playOnce();
  Atomics.store(words, callRaceWord.over, 1);
} else {
  for (; Atomics.load(words, callRaceWord.over) === 0; played++) playOnce();
}
const report: CpuReport = { rounds: played, answers, violations };
parentPort?.postMessage(report);
