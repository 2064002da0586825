// The words that the threads of an exploration share: whose turn it is, where each actor stands, what has happened so far. One
// layout, attached to by every thread. It knows no rule: who may go on is baton.ts, who shall is a scheduler.

/** Actors of one litmus test at most. */
export const MAX_ACTORS = 8;
/** Arguments of one litmus test at most. */
export const MAX_ARGUMENTS = 8;
/** Events of one schedule at most; a schedule that is longer has not ended. */
export const MAX_EVENTS = 32_768;
const MAIL_BYTES = 1 << 20;
const ACTOR_WORDS = 8;
const GLOBAL_WORDS = 32;
const SCHEDULER_WORDS = 64;
const SCHEDULER_DOUBLES = 32;

/** Words of the whole. `beat` never goes back: whoever watches from outside sees that something moves. */
export const word = {
  run: 0,
  current: 1,
  events: 2,
  preemptions: 3,
  finished: 4,
  reason: 5,
  live: 6,
  hashLow: 7,
  hashHigh: 8,
  /** Actors that could have gone on at the last choice, a bit each. */
  enabled: 9,
  limit: 10,
  /** Fallible steps seen, and which of them fails (-1: none). */
  fallible: 11,
  failAt: 12,
  mailBytes: 13,
  schedules: 14,
  /** Bits of `detailBit`. */
  detail: 15,
  /** Who gave the schedule up. */
  culprit: 16,
  /** The step that is left out: of whom (-1: none is), which of its own, and how many words that undid. */
  mutantActor: 17,
  mutantStep: 18,
  mutantEffect: 19,
  /** A flush that was left out would have dropped something, in some schedule since this was set back. */
  mutantFlushed: 20,
  /** Of each of the test's arguments, which of its values: MAX_ARGUMENTS words. */
  arguments: 21,
} as const;

/** Tell what every step changed; tell what every operation was answered. */
export const detailBit = { changes: 1, answers: 2 } as const;

/** Words of an actor. */
export const actorWord = {
  go: 0,
  status: 1,
  kind: 2,
  waitBuffer: 3,
  waitIndex: 4,
  waitExpected: 5,
  operations: 6,
} as const;

export const runState = { idle: 0, running: 1, aborting: 2, attach: 3 } as const;
export const actorStatus = { notStarted: 0, ready: 1, blocked: 2, finished: 3 } as const;

/** Why a schedule ended before all its actors had. */
export const endReason = { all: 0, deadlock: 1, limit: 2, thrown: 3, givenUp: 4, noProgress: 5 } as const;

/** Beside the model's step kinds: an actor that had waited goes on. `where`: the lock it waited for, or -1. */
export const RESUMED = 63;

const bytes = {
  words: (GLOBAL_WORDS + MAX_ACTORS * ACTOR_WORDS + SCHEDULER_WORDS) * 4,
  doubles: (MAX_ACTORS + SCHEDULER_DOUBLES) * 8,
};

export class Control {
  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(bytes.doubles + MAX_EVENTS * (8 + 4 + 4 + 1) + bytes.words + MAIL_BYTES);
  }

  readonly words: Int32Array<SharedArrayBuffer>;
  /** What each actor's next step is about. */
  readonly wheres: Float64Array<SharedArrayBuffer>;
  /** A scheduler's own state; every thread has its own object over it. */
  readonly scheduler: Int32Array<SharedArrayBuffer>;
  readonly schedulerDoubles: Float64Array<SharedArrayBuffer>;
  /** Event by event: kind + 256 · actor; what it was about; who could have gone instead. */
  readonly eventKinds: Int32Array<SharedArrayBuffer>;
  readonly eventWheres: Float64Array<SharedArrayBuffer>;
  readonly eventEnabled: Int32Array<SharedArrayBuffer>;
  /** By event: 1 + the actor that shall take it, 0 = as the scheduler likes. */
  readonly choices: Uint8Array<SharedArrayBuffer>;
  readonly mail: Uint8Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    let at = 0;
    const take = (size: number): number => {
      const start = at;
      at += size;
      return start;
    };
    this.wheres = new Float64Array(buffer, take(MAX_ACTORS * 8), MAX_ACTORS);
    this.schedulerDoubles = new Float64Array(buffer, take(SCHEDULER_DOUBLES * 8), SCHEDULER_DOUBLES);
    this.eventWheres = new Float64Array(buffer, take(MAX_EVENTS * 8), MAX_EVENTS);
    this.eventKinds = new Int32Array(buffer, take(MAX_EVENTS * 4), MAX_EVENTS);
    this.eventEnabled = new Int32Array(buffer, take(MAX_EVENTS * 4), MAX_EVENTS);
    const words = GLOBAL_WORDS + MAX_ACTORS * ACTOR_WORDS;
    this.words = new Int32Array(buffer, take(words * 4), words);
    this.scheduler = new Int32Array(buffer, take(SCHEDULER_WORDS * 4), SCHEDULER_WORDS);
    this.choices = new Uint8Array(buffer, take(MAX_EVENTS), MAX_EVENTS);
    this.mail = new Uint8Array(buffer, take(MAIL_BYTES), MAIL_BYTES);
  }

  actor(index: number): number {
    return GLOBAL_WORDS + index * ACTOR_WORDS;
  }

  get(at: number): number {
    return this.words[at] as number;
  }
}
