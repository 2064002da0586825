// What every scheduler is: asked at each choice who goes on. Each thread has an object of its own over the same shared words,
// because whoever stands at the choice asks; so a scheduler keeps nothing in its fields that a choice changes.

export interface Scheduler {
  /** Steps of each actor, as far as known: once, before schedules that are to be compared. */
  learn(lengths: readonly number[]): void;
  /** Before each schedule, in one thread, while no actor runs. What is random follows from the seed. */
  begin(seed: number): void;
  /**
   * Who takes event `index`. `me` stands at the choice (-1: the beginning); `enabled` has a bit for each actor that could go on,
   * at least one; `costs`: leaving `me` would be a preemption; `kind` is the step `me` would take. -1: give the schedule up.
   */
  pick(me: number, enabled: number, costs: boolean, index: number, kind: number): number;
}

export const isEnabled = (enabled: number, actor: number): boolean => (enabled & (1 << actor)) !== 0;

/** The enabled actor of the lowest number. */
export const lowest = (enabled: number): number => 31 - Math.clz32(enabled & -enabled);
