// Places of a mediator: numbers 0…n-1 that it hands out for bus frames or for gfns of dom0. Next fit, so that a place rests a
// while before it is used again. Shared memory, written by the mediator's thread alone.
import type { SharedWords } from './gpu-memory.ts';

export class Window {
  private readonly words: SharedWords;
  private readonly count: number;

  /** At most `limit` of them. */
  constructor(words: SharedWords, limit = words.length - 1) {
    this.words = words;
    this.count = Math.min(limit, words.length - 1);
  }

  /** A free place, now in use; -1: none. */
  take(): number {
    const { words, count } = this;
    const next = words.length - 1;
    for (let i = 0, at = words[next] as number; i < count; i++, at = at + 1 < count ? at + 1 : 0) {
      if (words[at] !== 0) continue;
      words[at] = 1;
      words[next] = at + 1 < count ? at + 1 : 0;
      return at;
    }
    return -1;
  }

  release(place: number): void {
    if (place >= 0 && place < this.count) this.words[place] = 0;
  }
}
