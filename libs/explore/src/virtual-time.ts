// Virtual time for real threads that contend for one lock: of all participants one runs, the one whose clock is lowest, and it hands over
// only where order matters: before it takes or releases the lock, and where it waits. Each step costs what libs/explore's table says.
// So every vCPU has a CPU of its own, however few cores the machine has, and a run gives the same figures everywhere.
//
// A waiter goes on at the time of the release that let it go, in the order in which they came.
import { stepKind } from '#model/shared-memory/step';

const WORDS = 5;
/** Words of a participant: called; what it does; the word it waits for, and the value that must change. */
const GO = 0;
const STATE = 1;
const WAIT_BUFFER = 2;
const WAIT_INDEX = 3;
const WAIT_EXPECTED = 4;
const state = { away: 0, ready: 1, blocked: 2 } as const;

const nobody = -1;

export class VirtualTime {
  static bytes(participants: number): number {
    return (2 * participants + 1) * 8 + participants * WORDS * 4;
  }

  private readonly clocks: Float64Array<SharedArrayBuffer>;
  /** Since when each has waited for the lock: who came first goes first. */
  private readonly cameAt: Float64Array<SharedArrayBuffer>;
  /** When the lock was released last. */
  private readonly released: Float64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly views: readonly Int32Array<SharedArrayBuffer>[];
  private readonly buffers: readonly SharedArrayBuffer[];
  private readonly participants: number;
  private readonly me: number;
  /** The lock's number, as steps name it. */
  private readonly lock: number;
  private running = false;

  constructor(
    buffer: SharedArrayBuffer,
    participants: number,
    me: number,
    buffers: readonly SharedArrayBuffer[],
    lock: number,
  ) {
    this.participants = participants;
    this.me = me;
    this.lock = lock;
    this.clocks = new Float64Array(buffer, 0, participants);
    this.cameAt = new Float64Array(buffer, participants * 8, participants);
    this.released = new Float64Array(buffer, 2 * participants * 8, 1);
    this.words = new Int32Array(buffer, (2 * participants + 1) * 8, participants * WORDS);
    this.buffers = buffers;
    this.views = buffers.map((b) => new Int32Array(b, 0, b.byteLength >> 2));
  }

  /** This thread is under virtual time now. */
  get on(): boolean {
    return this.running;
  }

  /** Its own clock, in nanoseconds. */
  get now(): number {
    return this.clocks[this.me] as number;
  }

  private word(participant: number, word: number): number {
    return Atomics.load(this.words, participant * WORDS + word);
  }

  private set(participant: number, word: number, value: number): void {
    Atomics.store(this.words, participant * WORDS + word, value);
  }

  /** Before anybody takes part: clocks at zero, a little apart. */
  reset(): void {
    this.released[0] = 0;
    for (let i = 0; i < this.participants; i++) {
      this.clocks[i] = i * 1_700;
      this.set(i, STATE, state.away);
      this.set(i, GO, 0);
    }
  }

  /** Takes part from now on, and sleeps until it is its turn. */
  join(): void {
    this.set(this.me, STATE, state.ready);
    Atomics.notify(this.words, this.me * WORDS + STATE);
    this.running = true;
    this.awaitTurn();
  }

  /** Whoever starts a run: waits until `others` have joined, and takes the first turn. */
  lead(others: number): void {
    for (let i = 1; i <= others; i++) {
      while (this.word(i, STATE) === state.away) Atomics.wait(this.words, i * WORDS + STATE, state.away, 100);
    }
    this.set(this.me, STATE, state.ready);
    this.running = true;
    this.choose();
  }

  /** Takes no part any more; the next one goes on. */
  leave(): void {
    this.set(this.me, STATE, state.away);
    this.running = false;
    const next = this.pick();
    if (next !== nobody) this.call(next);
  }

  /** Time that passes in guest mode or in user space. */
  pass(ns: number): void {
    if (this.running) this.clocks[this.me] = this.now + ns;
  }

  /** Lets everybody go on whose clock is behind: for who takes no lock for a while. */
  turn(): void {
    this.choose();
  }

  /** A step of the model, of this cost. */
  step(kind: number, where: number, ns: number): void {
    this.pass(ns);
    if (where !== this.lock || (kind !== stepKind.lock && kind !== stepKind.unlock)) return;
    if (kind === stepKind.lock) this.cameAt[this.me] = this.now;
    this.choose();
    if (kind === stepKind.unlock) this.released[0] = this.now;
  }

  /** The model waits until `words[index]` is no longer `expected`. */
  park(words: Int32Array<SharedArrayBuffer>, index: number, expected: number): void {
    this.set(this.me, WAIT_BUFFER, this.buffers.indexOf(words.buffer));
    this.set(this.me, WAIT_INDEX, (words.byteOffset >> 2) + index);
    this.set(this.me, WAIT_EXPECTED, expected);
    this.set(this.me, STATE, state.blocked);
    this.choose();
    this.set(this.me, STATE, state.ready);
    this.clocks[this.me] = Math.max(this.now, this.released[0] as number);
  }

  /** When it could go on; Infinity: it cannot yet. */
  private readyAt(participant: number): number {
    const clock = this.clocks[participant] as number;
    switch (this.word(participant, STATE)) {
      case state.ready:
        return clock;
      case state.blocked: {
        const view = this.views[this.word(participant, WAIT_BUFFER)] as Int32Array<SharedArrayBuffer>;
        const waits = Atomics.load(view, this.word(participant, WAIT_INDEX)) === this.word(participant, WAIT_EXPECTED);
        return waits ? Number.POSITIVE_INFINITY : Math.max(clock, this.released[0] as number);
      }
      default:
        return Number.POSITIVE_INFINITY;
    }
  }

  private pick(): number {
    let best = nobody;
    let bestAt = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.participants; i++) {
      const at = this.readyAt(i);
      const first = at < bestAt || (at === bestAt && best !== nobody && this.came(i) < this.came(best));
      if (at === Number.POSITIVE_INFINITY || !first) continue;
      best = i;
      bestAt = at;
    }
    return best;
  }

  private came(participant: number): number {
    return this.cameAt[participant] as number;
  }

  private choose(): void {
    if (!this.running) return;
    const next = this.pick();
    if (next === this.me) return;
    if (next === nobody) throw new Error('nobody can go on');
    this.call(next);
    this.awaitTurn();
  }

  private call(participant: number): void {
    this.set(participant, GO, 1);
    Atomics.notify(this.words, participant * WORDS + GO, 1);
  }

  private awaitTurn(): void {
    const go = this.me * WORDS + GO;
    while (Atomics.exchange(this.words, go, 0) === 0) Atomics.wait(this.words, go, 0, 1000);
  }
}
