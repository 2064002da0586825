// The operations whose hold of the p2m lock is measured: map (dom0 lends pages to the guest), translate (gfns of the guest to frames, with a
// reference each), revoke. Each is told how many extents it may do under one hold; between two holds it stands back for those who
// wait, as a queued lock would make it (virtual time does that by itself).
import { stepCostNs } from '#explore/schedulers/step-costs';
import type { VirtualTime } from '#explore/virtual-time';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { Host } from '#model/host';
import type { ModelPolicies } from '#model/host-config';
import { type Call, type Extents, extentAt, extentCount } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { getEntry, P2M_QUERY } from '#model/p2m/get-entry';
import { p2mLock, p2mUnlock } from '#model/p2m/p2m';
import { Leaf } from '#model/p2m/peek-entry';
import { lockWord } from '#model/shared-memory/lock-table';
import { stepKind } from '#model/shared-memory/step';
import type { ContentionBed } from './bed.ts';
import { LENDER_RAM, RAM, WINDOW } from './layout.ts';
import type { Probe } from './probe.ts';

/** Extents under one hold; `whole`: all of an operation. */
export type Hold = 'whole' | ModelPolicies['p2mLockBatch'];
export type PageOrder = 0 | 9;
export type Pattern = 'contiguous' | 'scattered';

/** How long an operation stands back at most, in milliseconds: somebody who waits may be anywhere. */
const STAND_BACK_MS = 5;

/** What one operation came to. */
export interface Done {
  readonly extents: number;
  /** Of the machine's clock, or virtual. */
  readonly ns: number;
}

/** What an access costs that the model makes without announcing it: the references of lent pages, one each. */
const REFERENCE_NS = stepCostNs(stepKind.refTake);

export class Operations {
  private readonly bed: ContentionBed;
  private readonly views = new Map<Hold, Host>();
  private readonly probe: Probe;
  private readonly virtual: VirtualTime;
  /** Asked between two holds: is the run over? */
  stop: () => boolean = () => false;
  private readonly lockId: number;
  private readonly lists = new Map<string, Extents>();

  constructor(bed: ContentionBed, probe: Probe, virtual: VirtualTime, lockId: number) {
    this.bed = bed;
    this.probe = probe;
    this.virtual = virtual;
    this.lockId = lockId;
  }

  /** This thread's view of the host under a locking policy. */
  private view(hold: Hold): Host {
    const known = this.views.get(hold);
    if (known) return known;
    const { h } = this.bed.bed;
    const policies: ModelPolicies = {
      ...h.config.policies,
      p2mLockHold: hold === 'whole' ? 'whole-op' : 'per-batch',
      p2mLockBatch: hold === 'whole' ? '64' : hold,
    };
    const shared = { ...h.shared, config: { ...h.shared.config, policies } };
    const view = new Host(shared, 0, h.platform);
    this.probe.watch(this.guestOf(view).locks.p2m);
    this.views.set(hold, view);
    return view;
  }

  private guestOf(h: Host) {
    const d = h.domain(this.bed.guest.domid);
    if (!d) throw new Error('the guest is gone');
    return d;
  }

  /** Frames of `order` from `base`: in order, or all of them in an order of chance (the same one each time). */
  private list(base: number, order: PageOrder, extents: number, pattern: Pattern): Extents {
    if (pattern === 'contiguous') return { start: base, count: extents };
    const key = `${base} ${order} ${extents}`;
    const known = this.lists.get(key);
    if (known) return known;
    const frames = Uint32Array.from({ length: extents }, (_, i) => base + i * 2 ** order);
    let seed = 12_345;
    for (let i = extents - 1; i > 0; i--) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      const j = Math.floor((seed / 2 ** 32) * (i + 1));
      [frames[i], frames[j]] = [frames[j] as number, frames[i] as number];
    }
    this.lists.set(key, { frames });
    return { frames };
  }

  private get nowNs(): number {
    return this.virtual.on ? this.virtual.now : performance.now() * 1e6;
  }

  map(hold: Hold, order: PageOrder, extents: number, pattern: Pattern): Done {
    this.probe.extraNs = (kind) => (kind === stepKind.ptWrite ? REFERENCE_NS * 2 ** order : 0);
    const gfns = this.list(LENDER_RAM, order, extents, pattern);
    const { domid } = this.bed.guest;
    return this.hypercall(hold, { op: 'lend', domid, first: WINDOW[order], gfns, flags: 0, sequence: 0 }, extents);
  }

  /** All that `map` may have mapped. */
  revoke(hold: Hold, order: PageOrder, extents: number): Done {
    this.probe.extraNs = () => 0;
    const { domid } = this.bed.guest;
    const count = extents * 2 ** order;
    const call = { op: 'revoke', domid, first: WINDOW[order], count, writeProtect: false } as const;
    return this.hypercall(hold, call, extents);
  }

  /** To its end, or cut between two holds when the run is over. */
  private hypercall(hold: Hold, call: Call & { op: 'lend' | 'revoke' }, extents: number): Done {
    const h = this.view(hold);
    const domain = h.domain(0);
    if (!domain) throw new Error('dom0 is gone');
    const caller = { domain, vcpu: 0, preempt: () => this.mustStandBack(h) || this.stop() };
    const from = this.nowNs;
    let state: ContinuationState | null = null;
    for (;;) {
      const outcome = runCall(h, caller, call, state);
      if (outcome.end === 'blocked') throw new Error(`${call.op} is blocked`);
      if (outcome.end === 'done') {
        if (outcome.answer.rc !== 0) throw new Error(`${call.op}: ${outcome.answer.rc}`);
        return { extents, ns: this.nowNs - from };
      }
      state = outcome.state;
      if (this.mustStandBack(h)) this.standBack(h);
      if (!this.stop()) continue;
      const at = state?.at ?? 0;
      const done = call.op === 'lend' ? at : ((at - call.first) * extents) / call.count;
      return { extents: done, ns: this.nowNs - from };
    }
  }

  /** As get_page_from_gfn does it for one: the entry is looked up and the frame referenced under the lock, the reference dropped after. */
  translate(hold: Hold, order: PageOrder, extents: number, pattern: Pattern): Done {
    this.probe.extraNs = () => 0;
    const h = this.view(hold);
    const d = this.guestOf(h);
    const gfns = this.list(RAM[order], order, extents, pattern);
    const perHold = hold === 'whole' ? extents : Number(hold);
    const leaf = new Leaf();
    const from = this.nowNs;
    let at = 0;
    while (at < extentCount(gfns)) {
      const end = Math.min(extents, at + perHold);
      const frames: Mfn[] = [];
      p2mLock(h, d);
      for (let i = at; i < end; i++) {
        const m = getEntry(h, d, extentAt(gfns, i, order), P2M_QUERY, leaf);
        if (!h.frames.getPage(m, d.domid)) throw new Error('a frame of the guest cannot be referenced');
        frames.push(m);
      }
      p2mUnlock(h, d);
      for (const m of frames) putPage(h, m);
      at = end;
      if (this.mustStandBack(h)) this.standBack(h);
      if (this.stop()) break;
    }
    return { extents: at, ns: this.nowNs - from };
  }

  private word(h: Host, word: number): number {
    return Atomics.load(h.lockTable.words, h.lockTable.base(this.lockId) + word);
  }

  private waiters(h: Host): number {
    return this.word(h, lockWord.writersWaiting) + this.word(h, lockWord.readersWaiting);
  }

  private mustStandBack(h: Host): boolean {
    return !this.virtual.on && this.waiters(h) > 0;
  }

  /** Until those who wait now have had the lock. */
  private standBack(h: Host): void {
    const turns = this.word(h, lockWord.lockCount) + this.waiters(h);
    const end = performance.now() + STAND_BACK_MS;
    while (this.waiters(h) > 0 && this.word(h, lockWord.lockCount) < turns && performance.now() < end) {
      const index = h.lockTable.base(this.lockId) + lockWord.sequence;
      Atomics.wait(h.lockTable.words, index, Atomics.load(h.lockTable.words, index), 0.05);
    }
  }

  /** The p2m lock's own profile begins again. */
  resetLockProfile(): void {
    const { lockTable } = this.bed.bed.h;
    for (let lock = 0; lock < lockTable.profile().length; lock++) lockTable.resetProfile(lock);
  }
}
