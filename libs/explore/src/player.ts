// Plays schedules of one variant and keeps the accounts of a search: how many, how many unlike ones, what was found and with which
// schedule. Every search is written in terms of it.
import { type Finding, findingsOf } from './checker.ts';
import type { Deviations } from './schedule.ts';
import { eraseChoices, writeChoices } from './schedule.ts';
import { StateCheck } from './state-check.ts';
import { Trace } from './trace.ts';
import type { Played, Playing, Troupe } from './troupe.ts';

/** A schedule that shows something. */
export interface Shown {
  readonly findings: readonly Finding[];
  readonly played: Played;
  readonly trace: Trace;
  readonly playing: Playing;
}

export interface Limits {
  readonly schedules: number;
  readonly seconds: number;
}

/** What a search has played so far, over all that it was split into. */
export class Tally {
  readonly hashes = new Set<string>();
  /** Every invariant that was broken, in how many schedules. */
  readonly counts = new Map<string, number>();
  schedules = 0;
  longest = 0;
  cases = 0;
  private readonly ends: number;
  private readonly most: number;

  constructor(limits: Limits) {
    this.most = limits.schedules;
    this.ends = performance.now() + limits.seconds * 1000;
  }

  get exhausted(): boolean {
    return this.schedules >= this.most || performance.now() > this.ends;
  }
}

export class Player {
  readonly troupe: Troupe;
  readonly tally: Tally;
  /** null: state invariants are not looked at. */
  private readonly states: StateCheck | null;
  private lastTrace: Trace | null = null;

  constructor(troupe: Troupe, states: boolean, tally: Tally) {
    this.troupe = troupe;
    this.states = states ? new StateCheck(troupe.host) : null;
    this.tally = tally;
  }

  get exhausted(): boolean {
    return this.tally.exhausted;
  }
  get schedules(): number {
    return this.tally.schedules;
  }

  /** The trace of what was played last. */
  trace(): Trace {
    this.lastTrace ??= new Trace(this.troupe.control, this.troupe.hardware);
    return this.lastTrace;
  }

  play(playing: Playing): { readonly played: Played; readonly findings: readonly Finding[] } {
    this.lastTrace = null;
    const played = this.troupe.play(playing);
    const { tally } = this;
    tally.schedules++;
    tally.longest = Math.max(tally.longest, played.events);
    tally.hashes.add(played.hash);
    const findings = findingsOf(this.troupe, played, () => this.trace(), this.states);
    for (const { invariant } of findings) tally.counts.set(invariant, (tally.counts.get(invariant) ?? 0) + 1);
    return { played, findings };
  }

  /** Plays what the choices say (the replay scheduler must be attached). */
  playChoices(deviations: Deviations, playing: Playing = {}): ReturnType<Player['play']> {
    writeChoices(this.troupe.control, deviations);
    const result = this.play(playing);
    eraseChoices(this.troupe.control, deviations);
    return result;
  }

  shown({ played, findings }: ReturnType<Player['play']>, playing: Playing): Shown {
    return { played, findings, trace: this.trace(), playing };
  }
}
