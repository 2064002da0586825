// What each CPU does with locks, as it happens, for those who look: a ring of events per CPU in shared memory, written by that
// CPU alone and read by one other thread. While nobody looks an event costs one load. It owns the rings; the meaning of an
// event's number is that of whoever notes it, and the clock is given: the model has none.

/** Kinds of events. `run`: a call begins, its number says which; `idle`: none runs. The others' number is the lock's. */
export const lockEvent = { run: 0, idle: 1, wait: 2, taken: 3, freed: 4 } as const;
const KINDS = 8;

const EVENTS = 32_768;
const ON = 0;
/** First word of the CPUs' positions. */
const POSITIONS = 2;
const words = (cpus: number): number => POSITIONS + Math.ceil(cpus / 2) * 2;

export class LockLog {
  static bytes(cpus: number): number {
    return words(cpus) * 4 + cpus * EVENTS * 16;
  }

  private readonly control: Int32Array<SharedArrayBuffer>;
  private readonly events: Float64Array<SharedArrayBuffer>;
  private readonly cpu: number;
  private readonly now: () => number;

  constructor(buffer: SharedArrayBuffer, cpus: number, cpu: number, now: () => number) {
    this.control = new Int32Array(buffer, 0, words(cpus));
    this.events = new Float64Array(buffer, words(cpus) * 4, cpus * EVENTS * 2);
    this.cpu = cpu;
    this.now = now;
  }

  /** Somebody looks. */
  get on(): boolean {
    return this.control[ON] !== 0;
  }

  /** `number`: an integer below 2^48. */
  note(kind: number, number: number): void {
    if (this.control[ON] === 0) return;
    const position = this.control[POSITIONS + this.cpu] as number;
    const at = (this.cpu * EVENTS + (position & (EVENTS - 1))) * 2;
    this.events[at] = this.now();
    this.events[at + 1] = number * KINDS + kind;
    Atomics.store(this.control, POSITIONS + this.cpu, (position + 1) | 0);
  }

  switch(on: boolean): void {
    Atomics.store(this.control, ON, on ? 1 : 0);
  }

  /** Events a CPU has noted so far, modulo 2^32. */
  position(cpu: number): number {
    return Atomics.load(this.control, POSITIONS + cpu);
  }

  /**
   * Calls back with the events of `cpu` from position `from` on, in order. Answers how many were overwritten before they were
   * read. Those that are being overwritten meanwhile are among them.
   */
  read(cpu: number, from: number, each: (tsUs: number, kind: number, number: number) => void): number {
    const to = this.position(cpu);
    const fresh = (to - from) | 0;
    const first = fresh > EVENTS / 2 ? (to - EVENTS / 2) | 0 : from;
    for (let position = first; position !== to; position = (position + 1) | 0) {
      const at = (cpu * EVENTS + (position & (EVENTS - 1))) * 2;
      const code = this.events[at + 1] as number;
      const number = Math.floor(code / KINDS);
      each(this.events[at] as number, code - number * KINDS, number);
    }
    return (first - from) | 0;
  }
}
