// The state invariants at the end of a schedule. They are functions of the host's memory, and most schedules of a test end with
// the same one: what a memory was found to be is kept with it, and compared byte by byte before anything is walked again.
import type { Host, Violation } from '#model/host';
import { checkInvariants } from '#model/invariants/check';
import { liveParts, tablesOf } from './state-parts.ts';

/** Memories kept. */
const KEPT = 24;

interface Known {
  readonly parts: readonly Uint8Array[];
  readonly violations: readonly Violation[];
}

export class StateCheck {
  private readonly host: Host;
  private readonly live: readonly Uint8Array[];
  private readonly known: Known[] = [];

  constructor(host: Host) {
    this.host = host;
    this.live = liveParts(host);
  }

  violations(): readonly Violation[] {
    const { host, known } = this;
    const parts = [this.tables(), ...this.live];
    const at = this.anyLockHeld() ? -1 : known.findIndex((one) => same(one.parts, parts));
    const [found] = at < 0 ? [] : known.splice(at, 1);
    const entry = found ?? { parts: parts.map((part) => part.slice()), violations: checkInvariants(host) };
    known.unshift(entry);
    if (known.length > KEPT) known.pop();
    return entry.violations;
  }

  private tables(): Uint8Array {
    return tablesOf(this.host);
  }

  private anyLockHeld(): boolean {
    const { config, lockTable } = this.host;
    for (let cpu = 0; cpu < config.pcpus + config.dmaThreads; cpu++) if (lockTable.heldCount(cpu) > 0) return true;
    return false;
  }
}

const same = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.every((part, i) => Buffer.compare(part, b[i] as Uint8Array) === 0); // both are made by `violations`
