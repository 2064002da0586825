// Schedules drawn by chance (random, PCT), one a seed: finds quickly, proves nothing.
import type { Finding } from './checker.ts';
import type { Player, Shown } from './player.ts';
import type { Playing } from './troupe.ts';

export interface SampledOptions {
  readonly firstSeed: number;
  readonly seeds: number;
  readonly playing?: Playing;
  readonly wanted: (finding: Finding) => boolean;
}

export interface SampledResult {
  readonly shown: Shown | null;
  readonly counts: ReadonlyMap<string, number>;
  /** Schedules until the first that showed it; 0: none did. */
  readonly first: number;
}

/** Stops at the first that shows what is wanted. */
export function sample(player: Player, options: SampledOptions): SampledResult {
  const counts = new Map<string, number>();
  for (let seed = options.firstSeed; seed < options.firstSeed + options.seeds && !player.exhausted; seed++) {
    const playing = { ...options.playing, seed };
    const result = player.play(playing);
    for (const { invariant } of result.findings) counts.set(invariant, (counts.get(invariant) ?? 0) + 1);
    if (result.findings.some(options.wanted))
      return { shown: player.shown(result, playing), counts, first: player.schedules };
  }
  return { shown: null, counts, first: 0 };
}
