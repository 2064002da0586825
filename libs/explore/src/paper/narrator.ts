// What each step of a step program changed, word by word, for a replay.
import { type Control, word } from '../control.ts';
import { say } from '../mail.ts';
import { whose } from './frames.ts';
import type { Steps } from './steps.ts';

const MOST = 12;

export class PaperNarrator {
  private readonly steps: Steps;
  private readonly control: Control;
  /** As it was at the last step of anybody: shared. */
  private readonly before: Int32Array<SharedArrayBuffer>;

  constructor(steps: Steps, control: Control, before: SharedArrayBuffer) {
    this.steps = steps;
    this.control = control;
    this.before = new Int32Array(before, 0, steps.memory.words.length);
  }

  /** Called before event `events` happens: what is new was changed by the one before it. */
  tell(): void {
    const { control, steps } = this;
    const { memory } = steps;
    const of = control.get(word.events) - 1;
    if (of >= 0) {
      const actor = (control.eventKinds[of] as number) >> 8;
      const held = `{${steps.locks.heldBy(actor).join(', ')}}`;
      say(control, { is: 'changes', of, actor, changes: this.changes(), held });
    }
    this.before.set(memory.words);
  }

  /** Owners, numbers that are kept with 1 added, and words, as a person knows them. */
  private shown(name: string, value: number): string {
    if (name.endsWith(', owner')) return whose(value - 2);
    if (name.endsWith(', type')) return value === 0 ? 'none' : (this.steps.texts.textOf(value) ?? String(value));
    const withOne = /^M2P of|\](?: in memory)?, (?:frame|table)$|, (?:cacheOf|lentTo)$|^owner of device/.test(name);
    if (!withOne) return String(value);
    return value === 0 ? 'none' : String(value - 1);
  }

  private changes(): string[] {
    const { memory } = this.steps;
    const told: string[] = [];
    for (let i = 0; i < memory.words.length; i++) {
      const [was, is] = [this.before[i] as number, memory.words[i] as number];
      const name = was === is ? null : memory.nameOf(i);
      if (name !== null) told.push(`${name}: ${this.shown(name, was)} → ${this.shown(name, is)}`);
    }
    return told.length > MOST ? [...told.slice(0, MOST), `… and ${told.length - MOST} more`] : told;
  }
}
