// Makes a counterexample as short as it gets: fewest preemptions first, then fewest steps, then fewest operations. Every attempt is
// played; what still shows the same invariant and is not longer is kept.
import type { Finding } from './checker.ts';
import { ExhaustiveSearch, stepsTo } from './exhaustive.ts';
import type { Player, Shown } from './player.ts';
import { type Deviations, deviation, deviationIndex, deviationsOf } from './schedule.ts';

/** Attempts to move switches about, at most. */
const MOVES = 400;

interface Length {
  readonly preemptions: number;
  readonly steps: number;
  readonly operations: number;
}

const ones = (mask: number, of: number): number => {
  let count = 0;
  for (let bit = 0; bit < of; bit++) if ((mask & (1 << bit)) !== 0) count++;
  return count;
};

export class Shrinker {
  private readonly player: Player;
  private readonly wanted: (finding: Finding) => boolean;
  /** Operations that each actor has. */
  private readonly operations: readonly number[];

  constructor(player: Player, operations: readonly number[], wanted: (finding: Finding) => boolean) {
    this.player = player;
    this.operations = operations;
    this.wanted = wanted;
  }

  /** The replay scheduler is attached. `fewest`: it is known already that no schedule needs fewer preemptions. */
  shrink(found: Shown, fewest: boolean): Shown {
    let best = fewest ? found : this.fewerPreemptions(found);
    best = this.moved(best);
    return this.fewerOperations(best);
  }

  private length({ playing, trace, findings, played }: Shown): Length {
    const steps = stepsTo({ playing, trace, findings, played }, this.wanted);
    return {
      preemptions: trace.spent[Math.min(steps, trace.length)] as number,
      steps,
      operations: this.operations.reduce((sum, n, actor) => sum + ones(playing.operations?.[actor] ?? -1, n), 0),
    };
  }

  private shorter(a: Shown, b: Shown): boolean {
    const [x, y] = [this.length(a), this.length(b)];
    if (x.preemptions !== y.preemptions) return x.preemptions < y.preemptions;
    return x.steps !== y.steps ? x.steps < y.steps : x.operations < y.operations;
  }

  /** Is there any with fewer, and if not, which of those with as many is the shortest? */
  private fewerPreemptions(found: Shown): Shown {
    const { preemptions } = this.length(found);
    const { playing } = found;
    const search = new ExhaustiveSearch(this.player, {
      bound: preemptions,
      reduce: true,
      playing,
      wanted: this.wanted,
    });
    const { shown } = search.run();
    return shown !== null && this.shorter(shown, found) ? shown : found;
  }

  /** Leaves switches out, and moves each to and fro, while that helps. */
  private moved(found: Shown): Shown {
    let best = found;
    for (let tries = 0, better = true; better && tries < MOVES && !this.player.exhausted; ) {
      better = false;
      const end = stepsTo(best, this.wanted);
      for (const candidate of this.candidates(deviationsOf(best.trace, end))) {
        if (++tries > MOVES || this.player.exhausted) break;
        const shown = this.attempt(candidate, best);
        if (shown === null) continue;
        best = shown;
        better = true;
        break;
      }
    }
    return best;
  }

  private *candidates(deviations: Deviations): Generator<Deviations> {
    for (let i = 0; i < deviations.length; i++) yield deviations.toSpliced(i, 1);
    for (let i = 0; i < deviations.length; i++) {
      const d = deviations[i] as number;
      const before = i === 0 ? 0 : deviationIndex(deviations[i - 1] as number) + 1;
      for (const index of [before, Math.floor((before + deviationIndex(d)) / 2), deviationIndex(d) - 1]) {
        if (index >= before && index < deviationIndex(d)) yield deviations.toSpliced(i, 1, deviation(index, d % 8));
      }
    }
  }

  private attempt(deviations: Deviations, best: Shown, operations = best.playing.operations): Shown | null {
    const playing = operations === undefined ? best.playing : { ...best.playing, operations };
    const result = this.player.playChoices(deviations, playing);
    if (!result.findings.some(this.wanted)) return null;
    const shown = this.player.shown(result, playing);
    return this.shorter(shown, best) ? shown : null;
  }

  /** Without one operation after the other; what is left is searched anew, since its steps stand elsewhere. */
  private fewerOperations(found: Shown): Shown {
    let best = found;
    for (const [actor, count] of this.operations.entries()) {
      for (let operation = 0; count > 1 && operation < count; operation++) {
        const masks = this.operations.map((_, a) => best.playing.operations?.[a] ?? -1);
        const mask = masks[actor] as number;
        if (ones(mask, count) <= 1 || (mask & (1 << operation)) === 0) continue;
        const operations = masks.with(actor, mask & ~(1 << operation));
        const { preemptions } = this.length(best);
        const playing = { ...best.playing, operations };
        const search = new ExhaustiveSearch(this.player, {
          bound: preemptions,
          reduce: true,
          playing,
          wanted: this.wanted,
        });
        const { shown } = search.run();
        if (shown !== null && this.shorter(shown, best)) best = shown;
      }
    }
    return best;
  }
}
