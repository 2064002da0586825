// A step program's host as the coordinator sees it: made and filled by the program's start, remembered, and set back before each
// schedule.
import { PaperMemory } from './memory.ts';
import { type PaperViolation, paperAtRest } from './rest.ts';
import type { PaperSpec } from './spec.ts';
import { Steps } from './steps.ts';

export class PaperHost {
  readonly buffer: SharedArrayBuffer;
  /** The coordinator's own view: it takes no steps once the start is over. */
  readonly steps: Steps;
  private readonly spec: PaperSpec;
  private readonly saved: Int32Array;

  constructor(spec: PaperSpec, args: Readonly<Record<string, number>>) {
    this.spec = spec;
    this.buffer = PaperMemory.create();
    this.steps = new Steps({
      spec,
      buffer: this.buffer,
      actor: -1,
      violate: (invariant, text) => {
        throw new Error(`the start violates ${invariant}: ${text}`);
      },
      args,
    });
    const { memory } = this.steps;
    for (const [name, value] of Object.entries(spec.words)) memory.set(memory.word(name), value);
    for (const name of memory.tableNames) memory.set(memory.tableLive(memory.table(name)), 1);
    spec.start(this.steps);
    this.saved = memory.words.slice();
  }

  restore(): void {
    this.steps.memory.words.set(this.saved);
  }

  /** There is nothing that is not set back. */
  checkBig(): void {}

  atRest(): PaperViolation[] {
    return paperAtRest(this.steps, this.spec);
  }
}
