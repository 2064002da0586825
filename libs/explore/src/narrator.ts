// What each step changed, for a person: table entries before and after, frames, cached translations, counts of domains. It keeps a
// second memory as it was at the last step, and compares. Only replays pay for it.
import { Host, type HostShared } from '#model/host';
import { type Control, word } from './control.ts';
import { say } from './mail.ts';
import { cacheChanges, contextChanges, domainChanges, frameChanges } from './narrator-state.ts';
import { tableChanges } from './narrator-tables.ts';

/** Sentences of one step at most. */
const MOST = 12;

export class Narrator {
  private readonly now: Host;
  private readonly before: Host;
  private readonly control: Control;
  private readonly cpus: readonly number[];

  /** `cpus`: of each actor. */
  constructor(now: Host, before: HostShared, control: Control, cpus: readonly number[]) {
    this.now = now;
    this.before = new Host(before, now.cpu, { printk: () => {}, violation: () => {} });
    this.control = control;
    this.cpus = cpus;
  }

  /** Called before event `events` happens: what is new was changed by the one before it. */
  tell(): void {
    const of = this.control.get(word.events) - 1;
    if (of >= 0) {
      const { now, before } = this;
      const changes = [
        ...tableChanges(now, before),
        ...frameChanges(now, before),
        ...contextChanges(now, before),
        ...cacheChanges(now, before),
        ...domainChanges(now, before),
      ];
      const shown =
        changes.length > MOST ? [...changes.slice(0, MOST), `… and ${changes.length - MOST} more`] : changes;
      const actor = (this.control.eventKinds[of] as number) >> 8;
      const held = now.lockTable.describeHeld(this.cpus[actor] as number);
      say(this.control, { is: 'changes', of, actor, changes: shown, held });
    }
    this.remember();
  }

  private remember(): void {
    const [from, to] = [this.now.shared.buffers, this.before.shared.buffers];
    for (const name of Object.keys(from) as (keyof typeof from)[]) {
      // The rings of devices are not told about, and they are large.
      if (name !== 'devices') new Uint8Array(to[name]).set(new Uint8Array(from[name]));
    }
  }
}
