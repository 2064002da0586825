// The other side of a grant: a frontend driver that wants its page back (gnttab_end_foreign_access). While the backend has it
// mapped, Xen will not let the entry go. A frontend that frees the page all the same hands the backend's device a page that is
// something else by now; today's keeps it on a list and asks again.
import type { Hypercalls } from '../../hypercall/calls.ts';
import type { MmPlatform } from './mm-config.ts';

interface Granted {
  readonly ref: number;
  readonly gfn: number;
}

export class GrantFrontend {
  /** Pages that are free for something else. */
  readonly freed: number[] = [];
  private readonly port: Hypercalls;
  private readonly platform: MmPlatform;
  /** Where it has its grant table. */
  private readonly tableGfn: number;
  private readonly busy: 'defer' | 'ignore';
  private deferred: Granted[] = [];

  constructor(port: Hypercalls, platform: MmPlatform, tableGfn: number, busy: 'defer' | 'ignore') {
    this.port = port;
    this.platform = platform;
    this.tableGfn = tableGfn;
    this.busy = busy;
  }

  /** True: the page is free now. */
  endAccess(ref: number, gfn: number): boolean {
    const { rc } = this.port.call({ op: 'grant_entry_end', gfn: this.tableGfn, index: ref, version: 1 });
    if (rc === 0) {
      this.freed.push(gfn);
      return true;
    }
    if (this.busy === 'defer') {
      this.deferred.push({ ref, gfn });
      return false;
    }
    this.freed.push(gfn);
    const text = `grant ${ref} is still mapped, and its page ${gfn.toString(16)} is used for something else`;
    this.platform.violation({ invariant: 'noGrantedPageFreedWhileMapped', text, evidence: { ref, gfn } });
    return true;
  }

  /** Pages that were put off. */
  get waiting(): number {
    return this.deferred.length;
  }

  /** Whether one of these is among them. */
  isWaiting(refs: readonly number[]): boolean {
    return this.deferred.some(({ ref }) => refs.includes(ref));
  }

  /** The timer's round over what was put off (gnttab_handle_deferred). Answers how many are left. */
  retry(): number {
    const again = this.deferred;
    this.deferred = [];
    for (const { ref, gfn } of again) this.endAccess(ref, gfn);
    return this.deferred.length;
  }
}
