// Schedules drawn by chance (random, PCT), one a seed: finds quickly, proves nothing.
import type { Finding } from './checker.ts';
import type { Player, Shown } from './player.ts';

export interface SampledOptions {
  readonly firstSeed: number;
  readonly seeds: number;
  /** Steps that can fail: each seed lets one of them fail, or none. */
  readonly fallible: number;
  readonly wanted: (finding: Finding) => boolean;
}

export interface SampledResult {
  readonly shown: Shown | null;
  /** Schedules until the first that showed it; 0: none did. */
  readonly first: number;
}

/** Stops at the first that shows what is wanted. */
export function sample(player: Player, options: SampledOptions): SampledResult {
  for (let seed = options.firstSeed; seed < options.firstSeed + options.seeds && !player.exhausted; seed++) {
    const failAt = (seed % (options.fallible + 1)) - 1;
    const playing = failAt < 0 ? { seed } : { seed, failAt };
    const result = player.play(playing);
    if (result.findings.some(options.wanted)) return { shown: player.shown(result, playing), first: player.schedules };
  }
  return { shown: null, first: 0 };
}
