// A DMA thread's work: the jobs of its devices, as bounded bursts, round robin, so that several devices progress together.
// Where a transaction lands is iommu/dma.ts; a fault is not replayed, and nothing here takes a lock.
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { BUS_MASTER_OFF, DmaThread } from '../iommu/dma.ts';
import type { FaultCause } from '../iommu/fault-cause.ts';
import { serviceFaults } from '../iommu/faults.ts';
import { park } from '../shared-memory/step.ts';
import { PackedCommand } from './device-queues.ts';

/** Transactions of one device before the next has its turn. */
const QUANTUM = 64;

/** Where a device is in its job. */
interface Cursor {
  readonly device: number;
  readonly sbdf: number;
  job: number;
  /** Commands not yet begun. */
  commandsLeft: number;
  readonly command: PackedCommand;
  pass: number;
  index: number;
}

/** One faulted transaction, with what the tables held right after it. */
export interface FaultEvent {
  readonly sbdf: number;
  readonly job: number;
  readonly dfn: number;
  readonly write: boolean;
  readonly reason: number;
  readonly cause: FaultCause | null;
}

export interface EngineHooks {
  /** Told of every finished job, after its results can be read: whoever waits for it can be woken. */
  readonly onDone?: (sbdf: number, job: number) => void;
  readonly onFault?: (fault: FaultEvent) => void;
  /** Milliseconds, for the storm control of faults; without it all faults of a device are one burst. */
  readonly now?: () => number;
}

export class DeviceEngine {
  private readonly h: Host;
  private readonly thread: number;
  private readonly dma: DmaThread;
  private readonly cursors: readonly Cursor[];
  private readonly hooks: EngineHooks;
  private turn = 0;

  constructor(h: Host, thread: number, hooks: EngineHooks = {}) {
    this.h = h;
    this.thread = thread;
    this.hooks = hooks;
    this.dma = new DmaThread(h, thread);
    this.cursors = h.config.devices
      .map(({ sbdf }, device) => ({
        device,
        sbdf,
        job: 0,
        commandsLeft: 0,
        command: new PackedCommand(),
        pass: 0,
        index: 0,
      }))
      .filter(({ device }) => h.devices.threadOf(device) === thread);
  }

  /** At most about `maxTransactions` over all devices of the thread; false = there was nothing to do. */
  runBurst(maxTransactions: number): boolean {
    const { cursors } = this;
    let left = maxTransactions;
    let worked = false;
    let idle = 0;
    while (left > 0 && idle < cursors.length) {
      const cursor = cursors[this.turn % cursors.length] as Cursor; // cursors is not empty here
      this.turn++;
      const did = this.runDevice(cursor, Math.min(QUANTUM, left));
      if (did < 0) idle++;
      else {
        idle = 0;
        worked = true;
        left -= Math.max(1, did);
      }
    }
    return worked;
  }

  /** Until a job is submitted to one of the thread's devices, at most `ms`. */
  idleWait(ms: number): void {
    const { doorbells } = this.h.devices;
    const seen = Atomics.load(doorbells, this.thread);
    if (this.cursors.some(({ device }) => this.h.devices.current(device) !== 0)) return;
    park(doorbells, this.thread, seen, ms);
  }

  /** Transactions done for one device, or -1 if it has no job. */
  private runDevice(cursor: Cursor, quantum: number): number {
    const queues = this.h.devices;
    const { device } = cursor;
    const job = queues.current(device);
    if (job === 0) return -1;
    if (cursor.job !== job) this.begin(cursor, job);
    if (queues.isDropped(device, job)) return this.end(cursor, errno.EINTR, 0);
    let did = 0;
    let completed = 0;
    while (did < quantum) {
      if (!this.seek(cursor)) {
        queues.addProgress(device, job, completed);
        return this.end(cursor, 0, did);
      }
      const { command } = cursor;
      const dfn = queues.frame(device, command, cursor.index);
      const reason = this.dma.transaction(cursor.sbdf, dfn, command.write ? 'w' : 'r', command.tag);
      if (reason === BUS_MASTER_OFF) {
        queues.addProgress(device, job, completed);
        return this.end(cursor, errno.EIO, did);
      }
      cursor.index++;
      did++;
      if (reason === 0) completed++;
      else {
        // A fault ends the burst: the interrupt is served, and the device may lose the bus by it.
        this.fault(cursor, dfn, reason);
        break;
      }
    }
    queues.addProgress(device, job, completed);
    return did;
  }

  private fault(cursor: Cursor, dfn: number, reason: number): void {
    const { device, sbdf, job, command } = cursor;
    this.h.devices.addFault(device, job, dfn, reason);
    this.hooks.onFault?.({ sbdf, job, dfn, write: command.write, reason, cause: this.dma.lastFault });
    serviceFaults(this.h, this.hooks.now?.() ?? 0);
  }

  private begin(cursor: Cursor, job: number): void {
    cursor.job = job;
    cursor.commandsLeft = this.h.devices.commandCount(cursor.device, job);
    cursor.command.count = 0;
    cursor.command.repeat = 0;
    cursor.command.next = this.h.devices.firstCommand(cursor.device, job);
    cursor.pass = 0;
    cursor.index = 0;
  }

  /** Moves on to the next transaction; false = the job has none left. */
  private seek(cursor: Cursor): boolean {
    const { command } = cursor;
    for (;;) {
      if (cursor.index >= command.count) {
        cursor.index = 0;
        cursor.pass++;
      }
      if (command.count > 0 && cursor.pass < command.repeat) return true;
      if (cursor.commandsLeft === 0) return false;
      cursor.commandsLeft--;
      this.h.devices.readCommand(cursor.device, command.next, command);
      cursor.pass = 0;
      cursor.index = 0;
    }
  }

  private end(cursor: Cursor, status: number, did: number): number {
    this.h.devices.finish(cursor.device, cursor.job, status);
    this.hooks.onDone?.(cursor.sbdf, cursor.job);
    return did;
  }
}
