// The invalidation queue of a VT-d unit: a ring of descriptors in shared memory that software fills at the tail and the
// unit carries out at the head, in order. An invalidation is only known to be done when a wait descriptor behind it wrote
// its status, so every request here is followed by one (as Xen's queue_invalidate_wait), and the wait for it has no limit:
// giving up let a late status pass for the completion of a newer request (XSA-373).
//
// The unit's own clock is not modelled: whoever waits turns its crank, one descriptor after the other, and a fault plan
// slows or stalls that at the step `hwFlush`. Owns the ring; what a descriptor does to a cache is the `execute` handed in.
import type { LockTable } from '../../shared-memory/lock-table.ts';
import { nowNs, step, stepKind } from '../../shared-memory/step.ts';
import { type Descriptor, descriptorType, ofWait } from './descriptor.ts';

/** Words of a descriptor beside its subject. */
const WORDS = 5;
/** One page of descriptors of 16 bytes. */
const LEAST_ENTRIES = 256;
const SLOW_NS = 100e6;
/** Words of the control block; the status slots of the CPUs follow. */
const HEAD = 0;
const TAIL = 1;
const ENGINE = 2;
const CONTROL_WORDS = 4;

/** Two slots per CPU and one between tail and head: with all CPUs inside, the ring is never full (XSA-373). */
const entriesFor = (cpus: number): number => Math.max(LEAST_ENTRIES, 2 ** Math.ceil(Math.log2(2 * cpus + 1)));

export class InvalidationQueue {
  static bytes(cpus: number): number {
    return entriesFor(cpus) * (8 + WORDS * 4) + (CONTROL_WORDS + cpus) * 4 + 8;
  }

  private readonly entries: number;
  private readonly subjects: Float64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly control: Int32Array<SharedArrayBuffer>;
  private readonly unit: number;
  private readonly execute: (descriptor: Descriptor) => void;

  /** `buffer` from byte `at` (8-aligned); `unit` is the number in messages. */
  constructor(
    buffer: SharedArrayBuffer,
    at: number,
    cpus: number,
    unit: number,
    execute: (descriptor: Descriptor) => void,
  ) {
    const n = entriesFor(cpus);
    this.entries = n;
    this.unit = unit;
    this.execute = execute;
    this.subjects = new Float64Array(buffer, at, n);
    this.words = new Int32Array(buffer, at + n * 8, n * WORDS);
    this.control = new Int32Array(buffer, at + n * (8 + WORDS * 4), CONTROL_WORDS + cpus);
  }

  /** Index of the descriptor the unit is at, and of the next free one. */
  get head(): number {
    return Atomics.load(this.control, HEAD);
  }
  get tail(): number {
    return Atomics.load(this.control, TAIL);
  }

  private post(d: Descriptor): void {
    const at = this.tail;
    this.words.set([d.type, d.granularity, d.did, d.order, d.device], at * WORDS);
    this.subjects[at] = d.subject;
    Atomics.store(this.control, TAIL, (at + 1) % this.entries);
  }

  private read(at: number): Descriptor {
    const base = at * WORDS;
    const word = (index: number): number => this.words[base + index] as number; // a slot has WORDS of them
    const subject = this.subjects[at] as number;
    return { type: word(0), granularity: word(1), did: word(2), order: word(3), device: word(4), subject };
  }

  /** Queues one request and a wait descriptor that reports to this CPU. Register lock held. */
  submit(descriptor: Descriptor, cpu: number): void {
    Atomics.store(this.control, CONTROL_WORDS + cpu, 0);
    this.post(descriptor);
    this.post(ofWait(cpu));
  }

  /** Until the wait descriptor that this CPU queued last was carried out. No limit; a slow one is said. */
  wait(cpu: number, locks: LockTable, printk: (line: string) => void): void {
    const slot = CONTROL_WORDS + cpu;
    const since = nowNs();
    while (!this.isDone(cpu)) {
      if (this.turn()) continue;
      locks.waitUntil(
        this.control,
        ENGINE,
        () => `the invalidation queue of iommu:${this.unit}`,
        () => Atomics.load(this.control, ENGINE) === 0 || Atomics.load(this.control, slot) !== 0,
      );
    }
    const took = nowNs() - since;
    if (took > SLOW_NS) printk(`[VT-D] IOMMU#${this.unit}: QI wait descriptor took ${Math.round(took / 1e6)}ms`);
  }

  /** Whether the wait descriptor that this CPU queued last was carried out, or one that it queued before and gave up on. */
  isDone(cpu: number): boolean {
    return Atomics.load(this.control, CONTROL_WORDS + cpu) !== 0;
  }

  /** The unit carries out what is queued; false: another CPU is turning it. */
  turn(): boolean {
    const { control } = this;
    if (Atomics.compareExchange(control, ENGINE, 0, 1) !== 0) return false;
    for (let at = this.head; at !== this.tail; at = this.head) {
      step(stepKind.hwFlush, this.unit);
      const d = this.read(at);
      if (d.type === descriptorType.wait) Atomics.store(control, CONTROL_WORDS + d.subject, 1);
      else this.execute(d);
      Atomics.store(control, HEAD, (at + 1) % this.entries);
    }
    Atomics.store(control, ENGINE, 0);
    Atomics.notify(control, ENGINE);
    return true;
  }
}
