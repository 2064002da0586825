// The words that the main thread and its pCPU and DMA threads share beside the model: doorbells, what makes a call yield, and
// parking at a safepoint. Every thread writes its own words and the main thread the rest; no model state is in here.

const GLOBAL_WORDS = 8;
const THREAD_WORDS = 8;

const at = {
  /** Generation of the safepoint asked for: odd = park, even = run. */
  parkRequest: 0,
  /** vCPUs that could run and have no pCPU. */
  waiting: 1,
  /** pCPUs with nothing to do. */
  idle: 2,
  stop: 3,
  consoleSequence: 4,
  /** Somebody looks at what the threads do. */
  watched: 5,
} as const;

const own = {
  doorbell: 0,
  /** Something arrived for this pCPU since it last looked: a running call yields at its next check. */
  arrived: 1,
  /** parkRequest as it was when this thread parked. */
  parked: 2,
} as const;

export class SharedWords {
  static create(threads: number): SharedArrayBuffer {
    return new SharedArrayBuffer((GLOBAL_WORDS + threads * THREAD_WORDS) * 4);
  }

  private readonly words: Int32Array<SharedArrayBuffer>;
  readonly threads: number;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.threads = (this.words.length - GLOBAL_WORDS) / THREAD_WORDS;
  }

  private thread(index: number, word: number): number {
    return GLOBAL_WORDS + index * THREAD_WORDS + word;
  }

  // ---- main thread

  /** Wakes a thread; `arrived` also makes its running call yield. */
  ring(thread: number, arrived: boolean): void {
    if (arrived) Atomics.store(this.words, this.thread(thread, own.arrived), 1);
    const doorbell = this.thread(thread, own.doorbell);
    Atomics.add(this.words, doorbell, 1);
    Atomics.notify(this.words, doorbell);
  }

  ringAll(): void {
    for (let thread = 0; thread < this.threads; thread++) this.ring(thread, false);
  }

  publishLoad(waiting: number, idle: number): void {
    Atomics.store(this.words, at.waiting, waiting);
    Atomics.store(this.words, at.idle, idle);
  }

  watch(on: boolean): void {
    Atomics.store(this.words, at.watched, on ? 1 : 0);
  }

  /** Asks every thread to park. Answers the generation to wait for. */
  requestPark(): number {
    const generation = Atomics.add(this.words, at.parkRequest, 1) + 1;
    this.ringAll();
    return generation;
  }

  releasePark(): void {
    Atomics.add(this.words, at.parkRequest, 1);
    Atomics.notify(this.words, at.parkRequest);
  }

  /** Threads that have not parked for `generation`. */
  notParked(generation: number): number[] {
    const running: number[] = [];
    for (let thread = 0; thread < this.threads; thread++) {
      if (Atomics.load(this.words, this.thread(thread, own.parked)) !== generation) running.push(thread);
    }
    return running;
  }

  stopAll(): void {
    Atomics.store(this.words, at.stop, 1);
    // Same parity, another value: nobody falls asleep on the old one.
    Atomics.add(this.words, at.parkRequest, 2);
    Atomics.notify(this.words, at.parkRequest);
    this.ringAll();
  }

  // ---- pCPU and DMA threads

  doorbell(thread: number): number {
    return Atomics.load(this.words, this.thread(thread, own.doorbell));
  }

  /** Sleeps until the doorbell is no longer `seen`, at most `ms`. */
  waitDoorbell(thread: number, seen: number, ms?: number): void {
    Atomics.wait(this.words, this.thread(thread, own.doorbell), seen, ms);
  }

  clearArrived(thread: number): void {
    Atomics.store(this.words, this.thread(thread, own.arrived), 0);
  }

  /** Something else wants this pCPU, or everybody is to park: Xen's pending softirq. */
  wantsPcpu(thread: number): boolean {
    return Atomics.load(this.words, this.thread(thread, own.arrived)) !== 0 || this.parkRequested;
  }

  get parkRequested(): boolean {
    return (Atomics.load(this.words, at.parkRequest) & 1) === 1;
  }

  get watched(): boolean {
    return this.words[at.watched] !== 0;
  }

  get stopped(): boolean {
    return Atomics.load(this.words, at.stop) !== 0;
  }

  get waiting(): number {
    return Atomics.load(this.words, at.waiting);
  }

  get idle(): number {
    return Atomics.load(this.words, at.idle);
  }

  /** Stays parked until released. The caller holds no lock and has no transaction open. */
  park(thread: number): void {
    for (;;) {
      const request = Atomics.load(this.words, at.parkRequest);
      if ((request & 1) === 0 || this.stopped) return;
      Atomics.store(this.words, this.thread(thread, own.parked), request);
      Atomics.wait(this.words, at.parkRequest, request);
    }
  }

  /** Order of console lines over all threads. */
  nextConsoleSequence(): number {
    return Atomics.add(this.words, at.consoleSequence, 1);
  }
}
