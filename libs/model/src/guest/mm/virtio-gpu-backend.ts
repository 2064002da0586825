// The backend of a virtio-GPU with native contexts, in a kernel that lends: a guest's user space touches a buffer whenever it
// likes; what it touches is the backend's memory, in RAM or in its GPU's, as pages of a window in the guest. The backend's kernel
// moves that memory without asking: the callback revokes, which cannot fail, and the guest's next touch comes back as a fault.
// It knows neither what the buffer is nor which of the guest's programs uses it.
import type { CallOf, Hypercalls } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import type { Mm } from './mm.ts';
import type { IntervalOps, NotifierRange } from './notifiers.ts';
import { lookUpPage } from './page-lookup.ts';
import { type Sequence, sequenceText } from './sequence.ts';
import type { XenMemory } from './xen-memory.ts';

export interface VirtioGpuConfig {
  readonly driver: number;
  /** The guest, and the window in it: guest frame `gfn` shows page `page`. */
  readonly domid: number;
  readonly gfn: number;
  readonly page: number;
  readonly count: number;
  /**
   * Who sees that a page was taken away since it was looked up: the driver under its lock, Xen by the window's sequence, the driver
   * before it has its lock (too early), nobody.
   */
  readonly retryCheck: 'under-lock' | 'hypervisor' | 'before-lock' | 'missing';
  /** What the guest gets for a page whose content is lost. */
  readonly onFailure: 'zero-page' | 'fault';
}

const LEND_readonly = 1;
const LEND_check_sequence = 2;

type LendCall = CallOf<'lend'>;

export class VirtioGpuBackend implements IntervalOps {
  private readonly mm: Mm;
  private readonly port: Hypercalls;
  private readonly memory: XenMemory;
  private readonly config: VirtioGpuConfig;
  /** Of this task: pages looked up to be lent, and what became of them. */
  lookups = 0;
  lent = 0;
  revoked = 0;
  lost = 0;

  constructor(mm: Mm, port: Hypercalls, memory: XenMemory, config: VirtioGpuConfig) {
    this.mm = mm;
    this.port = port;
    this.memory = memory;
    this.config = config;
    mm.notifiers.registerDriver(config.driver, this);
  }

  /** Opens the window and subscribes: the subscription's number, or the errno of lend_open or -ENOMEM. Once, by one task. */
  open(): number {
    const { domid, gfn, page, count, driver } = this.config;
    const onFailure = this.config.onFailure === 'fault' ? 1 : 0;
    const { rc } = this.port.call({ op: 'lend_open', domid, first: gfn, count, order: 0, onFailure });
    return rc !== 0 ? rc : this.mm.notifiers.insert(driver, page, page + count);
  }

  close(sub: number): void {
    this.mm.notifiers.remove(sub);
    this.port.call({ op: 'lend_close', domid: this.config.domid, first: this.config.gfn });
  }

  /** Answers the guest's faults that have come in; with `wait`, sleeps until there is one. How many. */
  serveFaults(sub: number, wait: boolean): number {
    const { faults = [] } = this.port.call({ op: 'lend_faults', wait });
    for (const { gfn, write, sequence } of faults) this.resolve(sub, gfn, write, sequence);
    return faults.length;
  }

  /** The fault path: look the page up, and lend it unless it was taken away meanwhile. */
  private resolve(sub: number, gfn: number, write: boolean, told: number): void {
    const { mm, config } = this;
    const page = config.page + gfn - config.gfn;
    for (let windowSequence = told; ; windowSequence = this.windowSequence(gfn)) {
      mm.panicCell.check();
      const begun = mm.notifiers.readBegin(sub);
      this.lookups++;
      const found = lookUpPage(mm, page, write);
      if (found.rc !== 0) {
        this.giveUp(gfn);
        return;
      }
      const readonly = found.writable ? 0 : LEND_readonly;
      const gfns = { frames: [this.memory.gfnOf(found.frame)] };
      const call: LendCall = { op: 'lend', domid: config.domid, first: gfn, gfns, flags: readonly, sequence: 0 };
      const rc = this.lend(sub, begun, call, windowSequence);
      if (rc === 0) return;
      if (rc !== -errno.EAGAIN) {
        this.giveUp(gfn);
        return;
      }
    }
  }

  private windowSequence(gfn: number): number {
    return this.port.call({ op: 'lend_sequence', domid: this.config.domid, gfn }).sequence ?? 0;
  }

  /** -EAGAIN: what was found is out of date. */
  private lend(sub: number, begun: Sequence, call: LendCall, windowSequence: number): number {
    const { mm, port, config } = this;
    if (config.retryCheck === 'hypervisor') {
      const flags = call.flags | LEND_check_sequence;
      return this.counted(port.call({ ...call, flags, sequence: windowSequence }).rc);
    }
    if (config.retryCheck === 'before-lock' && mm.notifiers.readRetry(sub, begun)) return -errno.EAGAIN;
    const lock = mm.driverLock(config.driver);
    lock.lock();
    try {
      const stale = mm.notifiers.readRetry(sub, begun);
      if (stale && config.retryCheck === 'under-lock') return -errno.EAGAIN;
      if (stale) this.judgeStale(call.first, begun);
      const { rc } = port.call(call);
      // Another fault on the same page was answered first, with a page that was not there to stay.
      return rc === -errno.EEXIST ? this.replace(call) : this.counted(rc);
    } finally {
      lock.unlock();
    }
  }

  private counted(rc: number): number {
    if (rc === 0) this.lent++;
    return rc;
  }

  /** A page is lent there that is not the one to be shown: a zero page, after content was lost and came back. */
  private replace(call: LendCall): number {
    this.port.call({ op: 'revoke', domid: call.domid, first: call.first, count: 1, writeProtect: false });
    return this.counted(this.port.call(call).rc);
  }

  private judgeStale(gfn: number, begun: Sequence): void {
    const text = `gfn ${gfn.toString(16)} of d${this.config.domid} is lent a page found at sequence ${sequenceText(begun)}, which has passed`;
    this.mm.platform.violation({ invariant: 'noMappingWithStaleSequence', text, evidence: { gfn } });
  }

  private giveUp(gfn: number): void {
    this.lost++;
    this.port.call({ op: 'lend_fail', domid: this.config.domid, gfn });
  }

  /**
   * Whatever the guest does, this ends: the revocation waits for nobody. Write-back only takes the right to write. Not blockable:
   * done if the lock is free.
   */
  invalidate(sub: number, range: NotifierRange, sequence: Sequence): boolean {
    const { mm, config } = this;
    const lock = mm.driverLock(config.driver);
    if (range.blockable) lock.lock();
    else if (!lock.tryLock()) return false;
    try {
      mm.notifiers.setSequence(sub, sequence);
      const start = Math.max(range.start, config.page);
      const count = Math.min(range.end, config.page + config.count) - start;
      const first = config.gfn + start - config.page;
      const writeProtect = range.event === 'protectionPage';
      const { rc, revoked = 0 } = this.port.call({ op: 'revoke', domid: config.domid, first, count, writeProtect });
      if (rc !== 0 && rc !== -errno.ESRCH) mm.panicCell.panic(`revoke answered ${rc}: the page cannot be taken away`);
      this.revoked += revoked;
      return true;
    } finally {
      lock.unlock();
    }
  }
}
