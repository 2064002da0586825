// Watches one reader/writer lock from the thread that takes it: how long it waited and held, by the clock of the machine or in virtual
// time, and in steps. Steps of a *wait* are those that others did under the lock meanwhile.
import { stepCostNs } from '#explore/schedulers/step-costs';
import type { VirtualTime } from '#explore/virtual-time';
import type { RwLock } from '#model/shared-memory/rwlock';
import { installSeam, type StepKind } from '#model/shared-memory/step';
import type { Figures } from './figures.ts';

/** How often each vCPU would ask for the lock if it never had to wait, in nanoseconds (recordPaced). */
export const PACE_NS = 20_000;

/** The shared work counter: steps done under the lock, by whoever held it. */
export const WORK_DOUBLES = 1;

const nowNs = (): number => performance.now() * 1e6;

export class Probe {
  private holding = false;
  private since = 0;
  private sinceSteps = 0;
  private sinceVirtual = 0;
  private virtual: VirtualTime | null = null;
  /** What a step costs beyond the table, by kind: accesses that the model does not announce one by one. */
  extraNs: (kind: StepKind) => number = () => 0;
  private lockOfStep = -1;
  private readonly work: Float64Array<SharedArrayBuffer>;
  private readonly figures: Figures;
  /** Which operation is under way now: an index into `operations`. */
  private readonly operation: () => number;

  /** Installs this thread's seam: once per thread, before it touches the model. */
  constructor(work: Float64Array<SharedArrayBuffer>, figures: Figures, operation: () => number) {
    this.work = work;
    this.figures = figures;
    this.operation = operation;
    installSeam({
      nowNs: () => (this.virtual?.on === true ? this.virtual.now : nowNs()),
      step: (kind, where) => {
        this.lockOfStep = where;
        if (this.holding) work[0] = (work[0] as number) + 1;
        if (this.virtual?.on === true) this.virtual.step(kind, where, stepCostNs(kind) + this.extraNs(kind));
        return 0;
      },
      park: (words, index, expected, ms) => {
        if (this.virtual?.on === true) this.virtual.park(words, index, expected);
        else Atomics.wait(words, index, expected, ms);
      },
    });
  }

  /** Under its time the thread runs whenever it takes part in it. */
  follow(virtual: VirtualTime): void {
    this.virtual = virtual;
  }

  private get time(): number {
    return this.virtual?.on === true ? this.virtual.now : 0;
  }

  /** Puts itself around the lock's methods, in this thread's view of it. Answers the lock's number. */
  watch(lock: RwLock): number {
    const writeLock = lock.writeLock.bind(lock);
    const writeUnlock = lock.writeUnlock.bind(lock);
    const readLock = lock.readLock.bind(lock);
    lock.readLock();
    const id = this.lockOfStep;
    lock.readUnlock();
    lock.writeLock = () => {
      if (lock.writeHeld) {
        writeLock();
        return;
      }
      this.waiting(writeLock);
      this.holding = true;
      this.since = nowNs();
      this.sinceSteps = this.work[0] as number;
      this.sinceVirtual = this.time;
    };
    lock.writeUnlock = () => {
      if (lock.writeDepth === 1) this.held();
      writeUnlock();
    };
    lock.readLock = () => {
      if (lock.writeHeld) readLock();
      else this.waiting(readLock);
    };
    return id;
  }

  private waiting(take: () => void): void {
    const { work, figures } = this;
    const op = this.operation();
    const [at, steps, virtual] = [nowNs(), work[0] as number, this.time];
    take();
    const wall = nowNs() - at;
    const waited = this.virtual?.on === true ? this.time - virtual : wall;
    const done = (work[0] as number) - steps;
    figures.histogram(op, 'wait', 'wall').recordPaced(wall, PACE_NS);
    figures.histogram(op, 'wait', 'virtual').recordPaced(this.time - virtual, PACE_NS);
    figures.histogram(op, 'wait', 'steps').recordPaced(done, done > 0 ? (PACE_NS * done) / waited : 1);
  }

  private held(): void {
    const { work, figures } = this;
    const op = this.operation();
    this.holding = false;
    figures.histogram(op, 'hold', 'wall').record(nowNs() - this.since);
    figures.histogram(op, 'hold', 'steps').record((work[0] as number) - this.sinceSteps);
    figures.histogram(op, 'hold', 'virtual').record(this.time - this.sinceVirtual);
  }
}
