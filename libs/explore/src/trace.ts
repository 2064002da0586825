// What happened in a schedule, event by event, read from the shared record: who, which step, about what, who could have gone on
// instead, and what leaving whoever stood there would have cost.
import { stepKind } from '#model/shared-memory/step';
import { type Control, RESUMED, word } from './control.ts';

export class Trace {
  readonly length: number;
  readonly actors: Uint8Array;
  readonly kinds: Uint8Array;
  readonly wheres: Float64Array;
  readonly enabled: Int32Array;
  /** Preemptions before each event; one more at the end. */
  readonly spent: Int32Array;
  private readonly hardware: readonly boolean[];

  constructor(control: Control, hardware: readonly boolean[]) {
    const length = control.get(word.events);
    this.length = length;
    this.hardware = hardware;
    this.kinds = new Uint8Array(length);
    this.actors = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      const event = control.eventKinds[i] as number;
      this.kinds[i] = event & 255;
      this.actors[i] = event >> 8;
    }
    this.wheres = control.eventWheres.slice(0, length);
    this.enabled = control.eventEnabled.slice(0, length);
    this.spent = new Int32Array(length + 1);
    const next = this.nextKinds();
    for (let i = 0; i < length; i++) {
      this.spent[i + 1] = (this.spent[i] as number) + this.price(i, this.actor(i), next[i] as number);
    }
  }

  actor(index: number): number {
    return this.actors[index] as number;
  }
  kind(index: number): number {
    return this.kinds[index] as number;
  }
  where(index: number): number {
    return this.wheres[index] as number;
  }

  /** By event: the kind of the step that whoever took the event before it would take next. */
  private nextKinds(): Uint8Array {
    const next = new Uint8Array(this.length);
    const pending = new Uint8Array(32);
    for (let i = this.length - 1; i > 0; i--) {
      pending[this.actor(i)] = this.kind(i);
      next[i] = pending[this.actor(i - 1)] as number;
    }
    return next;
  }

  private price(index: number, actor: number, kind: number): number {
    if (index === 0) return 0;
    const before = this.actor(index - 1);
    if (actor === before || this.hardware[before] === true) return 0;
    if (((this.enabled[index] as number) & (1 << before)) === 0) return 0;
    return kind === stepKind.yield || kind === RESUMED ? 0 : 1;
  }

  /** Preemptions that it costs to give event `index` to `actor`, all before being as it was. */
  cost(index: number, actor: number): number {
    if (index === 0) return 0;
    const before = this.actor(index - 1);
    let next = index;
    while (next < this.length && this.actor(next) !== before) next++;
    return (this.spent[index] as number) + this.price(index, actor, next < this.length ? this.kind(next) : 0);
  }

  /** May whoever takes event `index` be left for nothing there? */
  free(index: number): boolean {
    if (index === 0) return true;
    const before = this.actor(index - 1);
    const [actor, kind] = [this.actor(index), this.kind(index)];
    return before !== actor || this.hardware[actor] === true || kind === stepKind.yield || kind === RESUMED;
  }
}
