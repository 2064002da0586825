// The job queues between vCPUs and the DMA threads, in shared memory: one FIFO of jobs per device. Several vCPUs may submit
// (under the queue's lock); the one DMA thread a device belongs to takes jobs without a lock. A job is packed numbers in
// the queue's arena: ranges as two numbers, scattered frames copied. Nothing here translates or touches a frame.
//
// Why no lock on the consumer's side: a job's slot and arena are written before `next` is stored, and its results before
// `done` is stored; both are sequentially consistent. Space is reused only when `done` has passed the job that held it.
import type { HostConfig } from '../host-config.ts';
import type { DeviceCommand, DmaOutcome } from '../hypercall/calls.ts';
import type { Mutex } from '../shared-memory/mutex.ts';
import { step, stepKind } from '../shared-memory/step.ts';

/** Jobs a device can have outstanding, and finished jobs whose results are kept. */
export const JOB_SLOTS = 64;
export const MAX_COMMANDS = 4096;
/** Transactions (4K pages moved, repeats counted) of one submission. */
export const MAX_TRANSACTIONS = 2 ** 20;

const HEADER = 6;
/** A submission of the largest size fits an empty arena. */
const ARENA = MAX_TRANSACTIONS + MAX_COMMANDS * HEADER;
/** Doubles of a job slot. */
const JOB = {
  start: 0,
  end: 1,
  commands: 2,
  completed: 3,
  faults: 4,
  firstDfn: 5,
  firstReason: 6,
  incarnation: 7,
  status: 8,
};
const JOB_DOUBLES = 9;
const DEVICE_DOUBLES = JOB_SLOTS * JOB_DOUBLES + ARENA;
/** Words of a device: id of the next job, last finished job, jobs below this are dropped. */
const NEXT = 0;
const DONE = 1;
const RESET_BEFORE = 2;
const DEVICE_WORDS = 4;

/** One command, read back by the DMA thread. */
export class PackedCommand {
  write = false;
  tag = 0;
  repeat = 0;
  /** Frames of one pass. */
  count = 0;
  /** First frame of a range, or -1: scattered, see `at`. */
  start = 0;
  /** Arena position of the first scattered frame. */
  at = 0;
  /** Arena position of the next command. */
  next = 0;
}

export interface JobResult extends DmaOutcome {
  /** 0, or a positive errno: EINTR after a reset, EIO when the device's bus mastering was off. */
  readonly status: number;
}

export class DeviceQueues {
  static bytes(config: HostConfig): number {
    return config.devices.length * (DEVICE_DOUBLES * 8 + DEVICE_WORDS * 4) + Math.max(1, config.dmaThreads) * 4;
  }

  private readonly doubles: Float64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  /** One word per DMA thread, bumped at every submission. */
  readonly doorbells: Int32Array<SharedArrayBuffer>;
  private readonly locks: readonly Mutex[];
  private readonly threads: number;
  private readonly indexes = new Map<number, number>();

  constructor(buffer: SharedArrayBuffer, config: HostConfig, lock: (device: number) => Mutex) {
    const n = config.devices.length;
    this.threads = Math.max(1, config.dmaThreads);
    this.doubles = new Float64Array(buffer, 0, n * DEVICE_DOUBLES);
    this.words = new Int32Array(buffer, n * DEVICE_DOUBLES * 8, n * DEVICE_WORDS);
    this.doorbells = new Int32Array(buffer, n * (DEVICE_DOUBLES * 8 + DEVICE_WORDS * 4), this.threads);
    this.locks = config.devices.map((_, device) => lock(device));
    for (const [device, { sbdf }] of config.devices.entries()) this.indexes.set(sbdf, device);
  }

  /** Index of a device in the host's configuration, -1 if there is none. */
  indexOf(sbdf: number): number {
    return this.indexes.get(sbdf) ?? -1;
  }

  threadOf(device: number): number {
    return device % this.threads;
  }

  private word(device: number, word: number): number {
    return Atomics.load(this.words, device * DEVICE_WORDS + word);
  }

  private slot(device: number, job: number): number {
    return device * DEVICE_DOUBLES + (job % JOB_SLOTS) * JOB_DOUBLES;
  }

  private cell(device: number, position: number): number {
    return device * DEVICE_DOUBLES + JOB_SLOTS * JOB_DOUBLES + (position % ARENA);
  }

  /** Jobs submitted and not finished. */
  outstanding(device: number): number {
    return Math.max(1, this.word(device, NEXT)) - 1 - this.word(device, DONE);
  }

  /**
   * Queues a job for `incarnation` (of the submitting domain). Its id (from 1), or 0 when the queue or its arena is full.
   * The commands have been checked.
   */
  submit(device: number, commands: readonly DeviceCommand[], incarnation: number): number {
    const lock = this.locks[device] as Mutex; // callers have the index from indexOf
    lock.lock();
    try {
      const job = Math.max(1, this.word(device, NEXT));
      const waiting = this.outstanding(device);
      if (waiting >= JOB_SLOTS) return 0;
      const size = commands.reduce((sum, c) => sum + HEADER + ('frames' in c.frames ? c.frames.frames.length : 0), 0);
      // An empty queue starts again at 0, so that small jobs keep using the same few pages of memory.
      const start = waiting === 0 ? 0 : (this.doubles[this.slot(device, job - 1) + JOB.end] as number);
      const used =
        waiting === 0
          ? 0
          : start - (this.doubles[this.slot(device, this.word(device, DONE) + 1) + JOB.start] as number);
      if (used + size > ARENA) return 0;
      const slot = this.slot(device, job);
      this.doubles.fill(0, slot, slot + JOB_DOUBLES);
      this.doubles[slot + JOB.start] = start;
      this.doubles[slot + JOB.end] = start + size;
      this.doubles[slot + JOB.commands] = commands.length;
      this.doubles[slot + JOB.firstDfn] = -1;
      this.doubles[slot + JOB.incarnation] = incarnation;
      let at = start;
      for (const command of commands) at = this.pack(device, at, command);
      step(stepKind.write, device);
      Atomics.store(this.words, device * DEVICE_WORDS + NEXT, job + 1);
      this.wake(device);
      return job;
    } finally {
      lock.unlock();
    }
  }

  private pack(device: number, from: number, command: DeviceCommand): number {
    const { frames } = command;
    const scattered = 'frames' in frames;
    const put = (at: number, value: number): void => {
      this.doubles[this.cell(device, at)] = value;
    };
    put(from, command.kind === 'write' ? 1 : 0);
    put(from + 1, command.tag);
    put(from + 2, command.repeat);
    put(from + 3, scattered ? 1 : 0);
    put(from + 4, scattered ? -1 : frames.start);
    put(from + 5, scattered ? frames.frames.length : frames.count);
    if (!scattered) return from + HEADER;
    for (let i = 0; i < frames.frames.length; i++) put(from + HEADER + i, frames.frames[i] as number);
    return from + HEADER + frames.frames.length;
  }

  /** Wakes the thread that runs that device. */
  wake(device: number): void {
    const thread = this.threadOf(device);
    Atomics.add(this.doorbells, thread, 1);
    Atomics.notify(this.doorbells, thread);
  }

  /** Drops what is queued now. The reset is complete once the job it answers is done; 0 = nothing was queued. */
  reset(device: number): number {
    const lock = this.locks[device] as Mutex; // callers have the index from indexOf
    lock.lock();
    try {
      if (this.outstanding(device) === 0) return 0;
      const next = this.word(device, NEXT);
      Atomics.store(this.words, device * DEVICE_WORDS + RESET_BEFORE, next);
      this.wake(device);
      return next - 1;
    } finally {
      lock.unlock();
    }
  }

  isDone(device: number, job: number): boolean {
    return job <= this.word(device, DONE);
  }

  /** Whether that job's slot still tells of it, and it was submitted by that incarnation. */
  knows(device: number, job: number, incarnation: number): boolean {
    const next = Math.max(1, this.word(device, NEXT));
    if (job < 1 || job >= next || job < next - JOB_SLOTS) return false;
    return this.doubles[this.slot(device, job) + JOB.incarnation] === incarnation;
  }

  result(device: number, job: number): JobResult {
    const slot = this.slot(device, job);
    const read = (field: number): number => this.doubles[slot + field] as number;
    return {
      status: read(JOB.status),
      completed: read(JOB.completed),
      faults: read(JOB.faults),
      firstFaultDfn: read(JOB.firstDfn),
      firstFaultReason: read(JOB.firstReason),
    };
  }

  // What only the device's DMA thread calls.

  /** The job to work on, or 0. */
  current(device: number): number {
    const job = this.word(device, DONE) + 1;
    return job < this.word(device, NEXT) ? job : 0;
  }

  isDropped(device: number, job: number): boolean {
    return job < this.word(device, RESET_BEFORE);
  }

  commandCount(device: number, job: number): number {
    return this.doubles[this.slot(device, job) + JOB.commands] as number;
  }

  firstCommand(device: number, job: number): number {
    return this.doubles[this.slot(device, job) + JOB.start] as number;
  }

  readCommand(device: number, at: number, out: PackedCommand): void {
    const get = (offset: number): number => this.doubles[this.cell(device, at + offset)] as number;
    out.write = get(0) === 1;
    out.tag = get(1);
    out.repeat = get(2);
    out.start = get(4);
    out.count = get(5);
    out.at = at + HEADER;
    out.next = at + HEADER + (get(3) === 1 ? out.count : 0);
  }

  /** The i-th frame of a pass. */
  frame(device: number, command: PackedCommand, i: number): number {
    if (command.start >= 0) return command.start + i;
    return this.doubles[this.cell(device, command.at + i)] as number;
  }

  addProgress(device: number, job: number, completed: number): void {
    const at = this.slot(device, job) + JOB.completed;
    this.doubles[at] = (this.doubles[at] as number) + completed;
  }

  addFault(device: number, job: number, dfn: number, reason: number): void {
    const slot = this.slot(device, job);
    const faults = this.doubles[slot + JOB.faults] as number;
    if (faults === 0) {
      this.doubles[slot + JOB.firstDfn] = dfn;
      this.doubles[slot + JOB.firstReason] = reason;
    }
    this.doubles[slot + JOB.faults] = faults + 1;
  }

  finish(device: number, job: number, status: number): void {
    this.doubles[this.slot(device, job) + JOB.status] = status;
    Atomics.store(this.words, device * DEVICE_WORDS + DONE, job);
  }
}
