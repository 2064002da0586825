// The xen-balloon driver's thread, as Linux's drivers/xen/balloon.c: credit, batches of 512 extents, the state machine with
// its retry times, the target watch, and which pages go. It owns current_pages and target_pages; the pages themselves are
// guest-memory.ts. All times are guest milliseconds given by the caller. Runs on one vCPU (balloon_mutex).

import { DOMID_SELF } from '../frames/addresses.ts';
import type { Hypercalls } from '../hypercall/calls.ts';
import type { GuestMemory } from './guest-memory.ts';
import { pageState } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import type { BalloonSpec, BalloonState, GuestSink } from './guest-spec.ts';

/** gfns that fit into the driver's one page of frame_list. */
const BATCH = 512;
const IDLE_MS = 3_600_000;
const WAIT_MS = 1_000;
const BOOT_POLL_MS = 100;
const FIRST_DELAY_S = 1;
const MAX_DELAY_S = 32;
/** Hot-added memory comes in sections of 128 MiB (x86-64). */
const SECTION_PAGES = 32_768;
const ORDER_2M = 9;
const SUPERPAGE = 512;
const KIB_PER_PAGE = 4;

export interface BalloonOptions {
  readonly memory: GuestMemory;
  readonly port: Hypercalls;
  readonly sink: GuestSink;
  readonly spec: BalloonSpec;
  /** dom0 and PV guests: the xenstore target is the driver's own. */
  readonly control: boolean;
  /** memory/static-max as read when the target watch first fires; null if there is none. */
  readonly staticMaxKb: () => number | null;
}

export class Balloon {
  readonly name = 'balloon';
  private readonly o: BalloonOptions;
  private readonly unit: number;
  private readonly order: number;
  state: BalloonState = 'done';
  /** Seconds; starts at 1 and doubles while attempts come up short. */
  private delayS = FIRST_DELAY_S;
  private retryCount = 1;
  private wakeAt = 0;
  private sleepCredit = 0;
  /** Somebody woke the thread; it goes back to sleep unless its condition holds. */
  private signalled = false;
  /** Pages lent as slots: they are not missing RAM (target_unpopulated). */
  private lentPages = 0;
  /** static-max less what the kernel saw at first: pages it never had (video, special). null before the first watch. */
  private targetDiff: number | null = null;
  private announced = false;
  private bootCredit = 0;
  private bootChangedAt: number | null = null;

  constructor(options: BalloonOptions) {
    this.o = options;
    this.unit = options.memory.shared.unitPages;
    this.order = this.unit === SUPERPAGE ? ORDER_2M : 0;
  }

  /** The thread was woken and its condition holds: it wants to run before its time. */
  get woken(): boolean {
    return this.signalled && this.condition();
  }

  /** Pages wanted less pages held. The 2M driver counts whole runs only. */
  get credit(): number {
    const { currentPages, targetPages } = this.o.memory.record;
    return Math.trunc((targetPages - currentPages) / this.unit) * this.unit;
  }

  /** Whether the watch has ever fired. */
  get hasTarget(): boolean {
    return this.targetDiff !== null;
  }

  /** The watch on memory/target (KiB) fired. */
  onTarget(kib: number): void {
    const { memory, control, staticMaxKb } = this.o;
    if (this.targetDiff === null) {
      const staticMax = staticMaxKb();
      this.targetDiff =
        control || staticMax === null ? 0 : Math.floor(staticMax / KIB_PER_PAGE) - memory.record.targetPages;
    }
    memory.record.targetPages = Math.max(0, Math.floor(kib / KIB_PER_PAGE) - this.targetDiff);
    this.signalled = true;
  }

  /** One batch if the thread is due; answers when it next wants to run. */
  step(now: number): number {
    const called = this.woken;
    this.signalled = false;
    if (now < this.wakeAt && !called) return this.wakeAt;
    const credit = this.credit;
    let state: BalloonState = this.state;
    if (credit > 0) state = this.o.memory.record.balloonUnits > 0 ? this.increase(credit) : this.reserveAdditional();
    else if (credit < 0) state = this.decreaseTowards(credit);
    const before = this.state;
    this.state = this.updateSchedule(state);
    this.sleepCredit = this.credit;
    if (!this.announced && this.targetDiff !== null && this.sleepCredit === 0) {
      this.announced = true;
      this.o.sink.event('balloonReady', {});
    }
    if (this.state !== before || this.sleepCredit === 0) this.report();
    this.wakeAt = now + this.sleepMs();
    if (this.condition()) this.wakeAt = now;
    return this.wakeAt;
  }

  /** What ends the thread's sleep before its time (balloon_thread_cond): looked at as it falls asleep and when signalled. */
  private condition(): boolean {
    return this.state === 'done' ? this.credit !== 0 : this.credit !== this.sleepCredit;
  }

  private sleepMs(): number {
    if (this.state === 'wait') return WAIT_MS;
    return this.state === 'eagain' ? this.delayS * 1000 : IDLE_MS;
  }

  private updateSchedule(state: BalloonState): BalloonState {
    if (state === 'wait' || state === 'ecanceled') return state;
    const { maxRetryCount } = this.o.spec;
    const givesUp = state === 'eagain' && maxRetryCount !== 0 && ++this.retryCount > maxRetryCount;
    if (state === 'done' || givesUp) {
      this.delayS = FIRST_DELAY_S;
      this.retryCount = 1;
      return givesUp ? 'ecanceled' : 'done';
    }
    this.delayS = Math.min(this.delayS * 2, MAX_DELAY_S);
    return 'eagain';
  }

  private decreaseTowards(credit: number): BalloonState {
    const { memory } = this.o;
    const pages = Math.min(-credit, memory.availablePages);
    const state = this.decrease(pages);
    if (state === 'done' && pages !== -credit && pages < memory.reservePages) return 'eagain';
    return state;
  }

  /** decrease_reservation: at most one batch of extents from wherever the allocator has them. */
  private decrease(pages: number): BalloonState {
    const { memory, spec, port } = this.o;
    const wanted = Math.min(Math.floor(pages / this.unit), BATCH);
    const extents = this.allocExtents(wanted);
    if (extents.length > 0) {
      if (spec.scrub) this.scrub(extents);
      // On the list before the hypercall, as in Linux: nothing may look at the pages any more.
      memory.pushBallooned(extents);
      const frames = Uint32Array.from(extents);
      const { rc } = port.call({
        op: 'decrease_reservation',
        domid: DOMID_SELF,
        order: this.order,
        extents: { frames },
      });
      if (rc !== extents.length) {
        throw new GuestPanic(
          `kernel BUG at drivers/xen/balloon.c: decrease_reservation gave ${rc} of ${extents.length}`,
        );
      }
      memory.record.currentPages -= extents.length * this.unit;
    }
    return extents.length < wanted || (wanted === 0 && pages > 0) ? 'eagain' : 'done';
  }

  private allocExtents(count: number): number[] {
    const { memory } = this.o;
    if (this.order === 0) return memory.allocPages(count, pageState.ballooned);
    const runs: number[] = [];
    while (runs.length < count) {
      const run = memory.allocRun(pageState.ballooned);
      if (run < 0) break;
      runs.push(run);
    }
    return runs;
  }

  private scrub(extents: readonly number[]): void {
    const { memory, port } = this.o;
    for (const start of extents) {
      port.call({ op: 'store', frames: { start, count: this.unit }, tag: 0 });
      memory.markTouched(Array.from({ length: this.unit }, (_, i) => start + i));
    }
  }

  /** increase_reservation: frames for the most recently ballooned pages; they leave the list only as far as it succeeded. */
  private increase(credit: number): BalloonState {
    const { memory, port } = this.o;
    const extents = memory.peekBallooned(Math.min(credit / this.unit, BATCH));
    const frames = Uint32Array.from(extents);
    const { rc } = port.call({
      op: 'populate_physmap',
      domid: DOMID_SELF,
      order: this.order,
      memFlags: 0,
      extents: { frames },
    });
    if (rc <= 0) return 'eagain';
    for (const first of memory.popBallooned(rc, 'free')) this.markBacked(first);
    memory.record.currentPages += rc * this.unit;
    return 'done';
  }

  /** A populated page has a frame, whether or not a CPU ever looked at it. */
  private markBacked(first: number): void {
    this.o.memory.markTouched(Array.from({ length: this.unit }, (_, i) => first + i));
  }

  /** Nothing left to refill: hot-add sections above RAM, or settle for what there is. */
  private reserveAdditional(): BalloonState {
    const { memory, spec } = this.o;
    const { record } = memory;
    if (spec.hotplugMb === 0) {
      record.targetPages = record.currentPages + this.lentPages;
      return 'ecanceled';
    }
    const needed = record.targetPages + this.lentPages - record.ramPages;
    if (needed <= 0) return 'wait';
    return memory.hotAdd(Math.ceil(needed / SECTION_PAGES) * SECTION_PAGES) ? 'wait' : 'ecanceled';
  }

  /**
   * Late init (balloon_wait_finish): true once the first ballooning is over. A kernel whose ballooning is cancelled and has
   * made no progress for the boot timeout panics, rather than touch memory it does not have.
   */
  bootFinished(now: number): boolean {
    const credit = this.credit;
    if (credit >= 0) return true;
    if (this.bootChangedAt === null || credit !== this.bootCredit) {
      this.bootCredit = credit;
      this.bootChangedAt = now;
    }
    if (this.state === 'ecanceled' && now >= this.bootChangedAt + this.o.spec.bootTimeoutMs) {
      throw new GuestPanic('Initial ballooning failed!');
    }
    return false;
  }

  /** How often late init looks. */
  static readonly bootPollMs = BOOT_POLL_MS;

  /**
   * gfns without RAM for foreign mappings (xen_alloc_ballooned_pages): from the list, else by giving up RAM for it.
   * Fewer than asked for means the kernel has no more to give.
   */
  takeSlots(count: number): number[] {
    const { memory } = this.o;
    const units = Math.ceil(count / this.unit);
    while (memory.record.balloonUnits < units) {
      const before = memory.record.balloonUnits;
      this.decrease(Math.min((units - before) * this.unit, memory.availablePages));
      if (memory.record.balloonUnits === before) break;
    }
    const firsts = memory.popBallooned(units, 'slot');
    this.lentPages += firsts.length * this.unit;
    return firsts.flatMap((first) => Array.from({ length: this.unit }, (_, i) => first + i));
  }

  /** Slots whose mappings are gone go back on the list; the thread then refills them, since credit has grown. */
  returnSlots(slots: readonly number[]): void {
    this.o.memory.pushBallooned(slots.filter((_, i) => i % this.unit === 0));
    this.lentPages -= slots.length;
    this.signalled = true;
  }

  /** Ballooned pages are on their way back into RAM: the next batch is due at once. */
  get refilling(): boolean {
    return this.credit > 0 && this.o.memory.record.balloonUnits > 0 && this.state === 'done';
  }

  private report(): void {
    const { memory, sink } = this.o;
    const { currentPages, targetPages, balloonUnits } = memory.record;
    sink.event('balloon', { state: this.state, currentPages, targetPages, ballooned: balloonUnits * this.unit });
  }
}
