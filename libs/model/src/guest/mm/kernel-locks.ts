// The locks of one kernel and the one way in which its tasks sleep. Before a task sleeps, and again while it does, the wait-for
// graph is searched: a circle is reported with all its edges and stops the kernel, as Linux with kernel.hung_task_panic would
// after two minutes of hanging.
import type { Violation } from '../../host.ts';
import type { LockName } from '../../shared-memory/lock-order.ts';
import type { LockDeclaration } from '../../shared-memory/lock-table.ts';
import { LockTable } from '../../shared-memory/lock-table.ts';
import type { PanicCell } from '../../shared-memory/panic.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import { type WaitCycle, type WaitGraph, type WaitNode, waitKind, waitNode } from './wait-graph.ts';

/** Semaphores and mutexes; the others are spinlocks in Linux. */
const sleepingLocks: ReadonlySet<string | undefined> = new Set<LockName>(['guestMmap', 'guestDriver']);

export class KernelLocks extends LockTable {
  private readonly declared: readonly LockDeclaration[];
  private readonly graph: WaitGraph;
  private readonly report: (v: Violation) => void;
  /** A task of a kernel that has stopped is to notice soon, though nobody wakes it. */
  protected override readonly sliceMs = 10;
  /** How deep this task is in code that may not sleep. */
  private atomic = 0;

  constructor(
    buffer: SharedArrayBuffer,
    declarations: readonly LockDeclaration[],
    cpu: number,
    panicCell: PanicCell,
    graph: WaitGraph,
    report: (v: Violation) => void,
  ) {
    super(buffer, declarations, cpu, panicCell);
    this.declared = declarations;
    this.graph = graph;
    this.report = report;
    graph.register(waitKind.lock, {
      nameOf: (lock) => this.nameOf(lock),
      holders: (lock) => this.holders(lock).map((task) => ({ to: waitNode(waitKind.task, task), why: 'is held by' })),
    });
  }

  /** A scope is a driver's or a machine's number, not a domain's. */
  override nameOf(lock: number): string {
    const found = this.declared[lock];
    if (!found) throw new Error(`no lock ${lock}`);
    return found.scope < 0 ? found.name : `${found.name}(${found.scope})`;
  }

  /** `what` runs with sleeping forbidden, as a callback of a range that is not blockable. */
  withoutSleep<T>(what: () => T): T {
    this.atomic++;
    try {
      return what();
    } finally {
      this.atomic--;
    }
  }

  /** A lock of this table that is taken, as Mutex and RwLock wait for it. */
  override waitUntil(
    words: Int32Array<SharedArrayBuffer>,
    index: number,
    what: () => string,
    ready: () => boolean,
  ): void {
    const lock = this.lockOfWord(words, index);
    if (lock < 0) super.waitUntil(words, index, what, ready);
    else this.waitFor(waitNode(waitKind.lock, lock), words, index, ready, sleepingLocks.has(this.declared[lock]?.name));
  }

  /** Waits until `ready()`, woken by changes of `words[index]`; spinning (`sleeps` false) is allowed where sleeping is not. */
  waitFor(
    on: WaitNode,
    words: Int32Array<SharedArrayBuffer>,
    index: number,
    ready: () => boolean,
    sleeps = true,
  ): void {
    if (ready()) return;
    step(stepKind.waitFor, on);
    if (sleeps && this.atomic > 0) {
      const text = `cpu${this.cpu} sleeps on ${this.graph.nameOf(on)} in a callback that may not block`;
      this.report({ invariant: 'nonBlockableNeverSleeps', text, evidence: { cpu: this.cpu } });
    }
    this.graph.begin(this.cpu, on);
    try {
      const still = (): boolean => {
        if (ready()) return true;
        const cycle = this.graph.findCycle(this.cpu);
        if (cycle === null) return false;
        // What one waits for may have happened while one looked.
        if (ready()) return true;
        this.refuse(cycle);
      };
      super.waitUntil(words, index, () => this.graph.nameOf(on), still);
    } finally {
      this.graph.end(this.cpu);
    }
  }

  private refuse(cycle: WaitCycle): never {
    const text = `hung tasks, a circle of ${cycle.edges.length} edges: ${cycle.edges.join('; ')}`;
    // Of the tasks that find it only one is heard.
    if (this.panicCell.message() === null) {
      this.report({ invariant: 'noWaitCycle', text, evidence: { edges: cycle.edges.length } });
    }
    return this.panicCell.panic(text);
  }
}
