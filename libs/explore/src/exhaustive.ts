// Every schedule with at most so many preemptions, those with fewest first: so the first violation needs no fewer. A schedule is
// known by where it leaves the default; what has been played tells what else there is to play. With the reduction on, only
// what its trace shows may make a difference (reduction.ts).
import type { Finding } from './checker.ts';
import { endReason } from './control.ts';
import type { Player, Shown } from './player.ts';
import { turnsOf } from './reduction.ts';
import { type Deviations, defaultActor, deviation, deviationIndex } from './schedule.ts';
import type { Trace } from './trace.ts';
import type { Playing } from './troupe.ts';

export interface ExhaustiveOptions {
  readonly bound: number;
  readonly reduce: boolean;
  readonly playing?: Playing;
  /** When all up to the bound are played, those with one more, for so long. */
  readonly furtherSeconds?: number;
  /** What ends the search, once all with as few preemptions were looked at (or `more` of them). */
  readonly wanted: (finding: Finding) => boolean;
}

export interface ExhaustiveResult {
  /** The schedule with the fewest preemptions, and of those the fewest steps, that shows what was wanted. */
  readonly shown: Shown | null;
  /** All schedules up to this many preemptions were played; -1: not even those without. */
  readonly complete: number;
  /** Schedules played when the first one showed it; 0: none did. */
  readonly first: number;
}

/** After the first violation, so many schedules are looked at for a shorter one, and so long. */
const MORE = 2000;
const MORE_MS = 1000;

/** Events until a schedule showed it. */
export const stepsTo = (shown: Shown, wanted: (finding: Finding) => boolean): number =>
  Math.min(...shown.findings.filter(wanted).map(({ at }) => at));

export class ExhaustiveSearch {
  private readonly player: Player;
  private readonly options: ExhaustiveOptions;
  /** Preemptions at most. */
  private readonly last: number;
  /** Schedules to play, by their preemptions. */
  private readonly waiting: Deviations[][] = [[[]]];
  /** Of the reduction: what has been put on the list already. */
  private readonly known = new Set<string>();

  constructor(player: Player, options: ExhaustiveOptions) {
    this.player = player;
    this.options = options;
    this.last = options.bound + (options.furtherSeconds === undefined ? 0 : 1);
  }

  run(): ExhaustiveResult {
    const { player, options } = this;
    let shown: Shown | null = null;
    let first = 0;
    let until = Number.POSITIVE_INFINITY;
    let latest = Number.POSITIVE_INFINITY;
    let complete = -1;
    for (let preemptions = 0; preemptions <= this.last && shown === null; preemptions++) {
      if (preemptions > options.bound) latest = performance.now() + (options.furtherSeconds ?? 0) * 1000;
      this.waiting[preemptions] ??= [];
      const list = this.waiting[preemptions] as Deviations[];
      for (let next = list.pop(); next !== undefined; next = list.pop()) {
        if (player.exhausted || player.schedules >= until || performance.now() > latest)
          return { shown, complete, first };
        const found = this.playOne(next);
        if (found === null) continue;
        if (shown === null) {
          first = player.schedules;
          until = first + MORE;
          latest = performance.now() + MORE_MS;
        }
        if (shown === null || stepsTo(found, options.wanted) < stepsTo(shown, options.wanted)) shown = found;
      }
      // A later schedule cannot add to a list of fewer preemptions: to leave the default never gives one back.
      complete = preemptions;
    }
    return { shown, complete, first };
  }

  private playOne(deviations: Deviations): Shown | null {
    const { player, options } = this;
    const result = player.playChoices(deviations, options.playing);
    const trace = player.trace();
    // One that does not end has no last place to leave it at.
    const { reason } = result.played;
    if (reason === endReason.limit || reason === endReason.noProgress) return this.shownBy(result);
    if (options.reduce) this.addTurns(trace, deviations);
    else this.addAll(trace, deviations);
    return this.shownBy(result);
  }

  private shownBy(result: ReturnType<Player['play']>): Shown | null {
    const { wanted, playing = {} } = this.options;
    return result.findings.some(wanted) ? this.player.shown(result, playing) : null;
  }

  /** Whatever else could have been chosen after the last deviation: so every schedule is put on the list once. */
  private addAll(trace: Trace, deviations: Deviations): void {
    const last = deviations.at(-1);
    for (let index = last === undefined ? 0 : deviationIndex(last) + 1; index < trace.length; index++) {
      const others = (trace.enabled[index] as number) & ~(1 << trace.actor(index));
      for (let actor = 0; others >> actor !== 0; actor++) {
        if ((others & (1 << actor)) !== 0) this.add(trace, deviations, index, actor);
      }
    }
  }

  private addTurns(trace: Trace, deviations: Deviations): void {
    const last = deviations.at(-1);
    const turns = turnsOf(trace, this.player.troupe.names.length, last === undefined ? 0 : deviationIndex(last));
    let prefix: Deviations = [];
    let name = '';
    for (let turn = turns.indexOf(1), kept = 0; turn >= 0; turn = turns.indexOf(1, turn + 1)) {
      const [index, actor] = [turn >> 3, turn & 7];
      if (actor === trace.actor(index) || actor === defaultActor(trace, index)) continue;
      while (kept < deviations.length && deviationIndex(deviations[kept] as number) < index) {
        prefix = deviations.slice(0, ++kept);
        name = prefix.join();
      }
      const key = `${name},${turn}`;
      if (this.known.has(key)) continue;
      this.known.add(key);
      this.add(trace, prefix, index, actor);
    }
  }

  private add(trace: Trace, prefix: Deviations, index: number, actor: number): void {
    const cost = trace.cost(index, actor);
    if (cost > this.last) return;
    this.waiting[cost] ??= [];
    (this.waiting[cost] as Deviations[]).push([...prefix, deviation(index, actor)]);
  }
}
