// Fences of a kernel's device drivers (dma_fence): each is signalled once, by the engine that runs its job. A task that waits
// for one waits for that engine, and the wait-for graph knows it. Numbers grow; a slot is used again long after.
import { step, stepKind } from '../../shared-memory/step.ts';
import type { KernelLocks } from './kernel-locks.ts';
import { type WaitGraph, waitKind, waitNode } from './wait-graph.ts';

const SLOTS = 1024;
/** Words of a slot: number of its fence, 1 once signalled, the task that will signal it. */
const NUMBER = 0;
const SIGNALLED = 1;
const SIGNALLER = 2;
const SLOT_WORDS = 3;

export const fenceBytes = (): number => (1 + SLOTS * SLOT_WORDS) * 4;

export class Fences {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly locks: KernelLocks;

  constructor(buffer: SharedArrayBuffer, locks: KernelLocks, graph: WaitGraph) {
    this.words = new Int32Array(buffer);
    this.locks = locks;
    graph.register(waitKind.fence, {
      nameOf: (fence) => `fence ${fence}`,
      holders: (fence) => {
        if (this.isSignalled(fence)) return [];
        const task = Atomics.load(this.words, this.at(fence) + SIGNALLER);
        return [{ to: waitNode(waitKind.task, task), why: 'is to be signalled by' }];
      },
    });
  }

  private at(fence: number): number {
    return 1 + (fence % SLOTS) * SLOT_WORDS;
  }

  /** How many there have been. */
  get created(): number {
    return Atomics.load(this.words, 0);
  }

  /** A new fence that `task` is going to signal. From 1. */
  create(task: number): number {
    const fence = Atomics.add(this.words, 0, 1) + 1;
    const at = this.at(fence);
    Atomics.store(this.words, at + SIGNALLER, task);
    Atomics.store(this.words, at + SIGNALLED, 0);
    Atomics.store(this.words, at + NUMBER, fence);
    return fence;
  }

  /** A fence whose slot has been used again was signalled long ago. */
  isSignalled(fence: number): boolean {
    const at = this.at(fence);
    return Atomics.load(this.words, at + NUMBER) !== fence || Atomics.load(this.words, at + SIGNALLED) !== 0;
  }

  signal(fence: number): void {
    step(stepKind.write, fence);
    const index = this.at(fence) + SIGNALLED;
    Atomics.store(this.words, index, 1);
    Atomics.notify(this.words, index);
  }

  wait(fence: number): void {
    const index = this.at(fence) + SIGNALLED;
    this.locks.waitFor(waitNode(waitKind.fence, fence), this.words, index, () => this.isSignalled(fence));
  }
}
