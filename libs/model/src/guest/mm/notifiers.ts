// How a kernel tells those who keep copies of its page table that a range is about to change (mmu_notifier.h): interval
// notifiers with their sequence protocol, and range notifiers as KVM uses them. Between start and end nobody may make a new
// secondary mapping of the range; once start has returned nobody may use an old one.
//
//   reader (a driver's fault path)                 invalidation
//   s = readBegin   sleeps while it runs            start: sequence odd, each overlapping callback:
//   look the pages up, no driver lock                        driver lock, setSequence, tear down, unlock
//   driver lock; readRetry(s)? unlock, again        change the page table, free
//   program; unlock                                 end: last one out makes the sequence even, wakes the readers
import { errno } from '../../hypercall/errno.ts';
import type { Mutex } from '../../shared-memory/mutex.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import type { KernelLocks } from './kernel-locks.ts';
import type { MmPlatform } from './mm-config.ts';
import {
  isOdd,
  madeOdd,
  nextSequence,
  previousSequence,
  type Sequence,
  SequenceCell,
  sameSequence,
} from './sequence.ts';
import { SubscriptionTable, subscriptionBytes, subscriptionState } from './subscriptions.ts';
import { type WaitGraph, waitKind, waitNode } from './wait-graph.ts';

/** MMU_NOTIFY_*: why a range is invalidated. */
export const notifyEvent = {
  unmap: 0,
  clear: 1,
  protectionVma: 2,
  protectionPage: 3,
  softDirty: 4,
  release: 5,
  migrate: 6,
  exclusive: 7,
} as const;
export type NotifyEvent = keyof typeof notifyEvent;

export interface NotifierRange {
  /** Pages [start, end). */
  readonly start: number;
  readonly end: number;
  readonly event: NotifyEvent;
  /** The callback may sleep, and then must succeed; if not it may refuse, having done nothing. */
  readonly blockable: boolean;
}

/** A driver's callback. It must set the sequence of `sub` under its lock, whatever else it does. False: refused. */
export interface IntervalOps {
  invalidate(sub: number, range: NotifierRange, sequence: Sequence): boolean;
}

/** A subscriber to all of the address space. One that may refuse has no `end`: the core does not know who refused. */
export interface RangeOps {
  readonly name: string;
  start(range: NotifierRange): number;
  end?(range: NotifierRange): void;
}

const ACTIVE = 3;
const TASKS = 4;
/** Words of a task: how many invalidations it is in, and of the outermost [start, end). */
const TASK_WORDS = 3;

export const notifierBytes = (tasks: number): number => (TASKS + tasks * TASK_WORDS) * 4 + subscriptionBytes();

export function initNotifiers(buffer: SharedArrayBuffer, first: Sequence): void {
  new SequenceCell(new Int32Array(buffer), 0).write(first);
}

export class Notifiers {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly sequence: SequenceCell;
  private readonly subs: SubscriptionTable;
  private readonly tasks: number;
  private readonly mutex: Mutex;
  private readonly locks: KernelLocks;
  private readonly platform: MmPlatform;
  private readonly drivers = new Map<number, IntervalOps>();
  private readonly rangeOps: RangeOps[] = [];

  constructor(
    buffer: SharedArrayBuffer,
    tasks: number,
    mutex: Mutex,
    locks: KernelLocks,
    graph: WaitGraph,
    platform: MmPlatform,
  ) {
    this.words = new Int32Array(buffer);
    this.tasks = tasks;
    this.sequence = new SequenceCell(this.words, 0);
    this.subs = new SubscriptionTable(buffer, (TASKS + tasks * TASK_WORDS) * 4);
    this.mutex = mutex;
    this.locks = locks;
    this.platform = platform;
    graph.register(waitKind.invalidation, {
      nameOf: (low) => `the end of the invalidation with sequence …${low.toString(16)}`,
      // Over already, though the waiter may not have woken yet: nobody holds it up.
      holders: (low) => (this.sequence.read().lo % 2 ** 20 === low ? this.invalidating().map(runBy) : []),
    });
  }

  /** Every task of the kernel registers the same drivers: a callback runs on the task that invalidates. */
  registerDriver(driver: number, ops: IntervalOps): void {
    this.drivers.set(driver, ops);
  }
  registerRange(ops: RangeOps): void {
    this.rangeOps.push(ops);
  }

  get current(): Sequence {
    return this.sequence.read();
  }
  get active(): number {
    return Atomics.load(this.words, ACTIVE);
  }

  private taskWord(task: number, word: number): number {
    return TASKS + task * TASK_WORDS + word;
  }

  /** Tasks that are between start and end, of a range that overlaps [start, end) if one is given. */
  invalidating(start = 0, end = Number.POSITIVE_INFINITY): number[] {
    return Array.from({ length: this.tasks }, (_, task) => task).filter(
      (task) =>
        Atomics.load(this.words, this.taskWord(task, 0)) > 0 &&
        (this.words[this.taskWord(task, 1)] as number) < end &&
        (this.words[this.taskWord(task, 2)] as number) > start,
    );
  }

  /** A subscription of `driver` to [start, end), or -ENOMEM. While an invalidation runs it takes effect at its end. */
  insert(driver: number, start: number, end: number): number {
    step(stepKind.write, start);
    this.mutex.lock();
    const sub = this.subs.take(driver, start, end);
    if (sub >= 0) {
      const now = this.sequence.read();
      if (this.active === 0) {
        // Odd, so it equals no sequence of an idle space, and just behind, so that it will not come up soon.
        this.subs.sequence(sub).write(previousSequence(now));
        this.subs.setState(sub, subscriptionState.inserted);
      } else {
        const deferred = isOdd(now);
        if (!deferred) this.sequence.write(madeOdd(now));
        this.subs.sequence(sub).write(this.sequence.read());
        this.subs.setState(sub, deferred ? subscriptionState.insertPending : subscriptionState.inserted);
      }
    }
    this.mutex.unlock();
    return sub < 0 ? -errno.ENOMEM : sub;
  }

  /** Returns when no callback of it runs or will run. May sleep: not from a callback. */
  remove(sub: number): void {
    step(stepKind.write, sub);
    this.mutex.lock();
    const now = this.sequence.read();
    const wait = isOdd(now) && this.subs.state(sub) === subscriptionState.inserted;
    this.subs.setState(sub, wait ? subscriptionState.removePending : subscriptionState.free);
    this.mutex.unlock();
    if (wait) this.sleepWhile(now);
  }

  private sleepWhile(sequence: Sequence): void {
    const node = waitNode(waitKind.invalidation, sequence.lo % 2 ** 20);
    const ready = (): boolean => !sameSequence(this.sequence.read(), sequence);
    this.locks.waitFor(node, this.words, this.sequence.parkIndex, ready);
  }

  readBegin(sub: number): Sequence {
    step(stepKind.read, sub);
    this.mutex.lock();
    const mine = this.subs.sequence(sub).read();
    const running = sameSequence(mine, this.sequence.read());
    this.mutex.unlock();
    if (running) this.sleepWhile(mine);
    return mine;
  }

  /** Whether the range was invalidated since readBegin. An answer is good only while the driver's lock is held. */
  readRetry(sub: number, begun: Sequence): boolean {
    step(stepKind.read, sub);
    return !sameSequence(this.subs.sequence(sub).read(), begun);
  }

  /** The callback's, under the driver's lock. */
  setSequence(sub: number, sequence: Sequence): void {
    step(stepKind.write, sub);
    this.subs.sequence(sub).write(sequence);
  }

  /** mmu_notifier_invalidate_range_start: 0, or -EAGAIN of a range that is not blockable; then nothing is under way. */
  start(range: NotifierRange): number {
    step(stepKind.write, range.start);
    this.mutex.lock();
    Atomics.add(this.words, ACTIVE, 1);
    this.enterTask(range);
    const overlapping = this.subs.overlapping(range.start, range.end);
    if (overlapping.length > 0) this.sequence.write(madeOdd(this.sequence.read()));
    const sequence = this.sequence.read();
    this.mutex.unlock();
    for (const sub of overlapping) {
      const ops = this.drivers.get(this.subs.driver(sub));
      if (!ops) throw new Error(`no driver ${this.subs.driver(sub)} is attached to this task`);
      const done = this.run(range, () => ops.invalidate(sub, range, sequence));
      if (!done && this.refused(range, `driver ${this.subs.driver(sub)}`)) {
        this.endIntervals();
        return -errno.EAGAIN;
      }
    }
    return this.startRanges(range);
  }

  private startRanges(range: NotifierRange): number {
    let refused = false;
    for (const ops of this.rangeOps) {
      if (this.run(range, () => ops.start(range)) !== 0 && this.refused(range, ops.name)) refused = true;
    }
    if (!refused) return 0;
    // As mn_hlist_invalidate_range_start; that the intervals' own count is taken back as well is ours.
    for (const ops of this.rangeOps) ops.end?.(range);
    this.endIntervals();
    return -errno.EAGAIN;
  }

  private run<T>(range: NotifierRange, callback: () => T): T {
    return range.blockable ? callback() : this.locks.withoutSleep(callback);
  }

  /** Whether a refusal counts: where one may block it is a bug that Linux warns of and goes on from. */
  private refused(range: NotifierRange, who: string): boolean {
    if (!range.blockable) return true;
    const text = `${who} refused the invalidation (${range.event}) of pages ${range.start}-${range.end - 1}, which may block`;
    const evidence = { start: range.start, end: range.end };
    this.platform.violation({ invariant: 'blockableCallbackNeverFails', text, evidence });
    return false;
  }

  /** mmu_notifier_invalidate_range_end. */
  end(range: NotifierRange): void {
    step(stepKind.write, range.start);
    this.endIntervals();
    for (const ops of this.rangeOps) ops.end?.(range);
  }

  private endIntervals(): void {
    this.mutex.lock();
    Atomics.sub(this.words, this.taskWord(this.locks.cpu, 0), 1);
    const left = Atomics.sub(this.words, ACTIVE, 1) - 1;
    const over = left === 0 && isOdd(this.sequence.read());
    if (over) {
      this.sequence.write(nextSequence(this.sequence.read()));
      this.subs.settle();
    }
    this.mutex.unlock();
    if (over) Atomics.notify(this.words, this.sequence.parkIndex);
  }

  /** Only the outermost range is kept; a nested one widens it. */
  private enterTask({ start, end }: NotifierRange): void {
    const task = this.locks.cpu;
    const first = this.taskWord(task, 1);
    const last = this.taskWord(task, 2);
    const depth = Atomics.load(this.words, this.taskWord(task, 0));
    this.words[first] = depth > 0 ? Math.min(this.words[first] as number, start) : start;
    this.words[last] = depth > 0 ? Math.max(this.words[last] as number, end) : end;
    Atomics.store(this.words, this.taskWord(task, 0), depth + 1);
  }
}

const runBy = (task: number): { to: ReturnType<typeof waitNode>; why: string } => ({
  to: waitNode(waitKind.task, task),
  why: 'is run by',
});
