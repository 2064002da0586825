// A backend's buffer shown to a guest once and for all, in the ways there are without memory lending: granted, mapped as foreign
// frames, or a fixed blob. Pinned, its pages stay where they are and its kernel has to do without moving them. With a notifier the
// callback must take a page away before its kernel moves it, and whether it can is the question: a granter cannot take a grant back.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { type Hypercalls, physmapSpace } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import type { SharingPolicies } from '../activity/spec.ts';
import { handleFault } from './faults.ts';
import type { FrameIndex } from './frame-pools.ts';
import { getUserPages, putUserPages } from './gup.ts';
import type { Mm } from './mm.ts';
import type { IntervalOps, NotifierRange } from './notifiers.ts';
import { hasFrame, pteFrame } from './page-table.ts';
import type { Sequence } from './sequence.ts';
import type { XenMemory } from './xen-memory.ts';

export interface SharedBufferConfig {
  readonly driver: number;
  readonly share: SharingPolicies['share'];
  readonly mapping: SharingPolicies['mapping'];
  /** The guest, and where in it: its frame `gfn` shows page `page`. */
  readonly domid: number;
  readonly gfn: number;
  readonly page: number;
  readonly count: number;
  /** Where the kernel has its grant table. */
  readonly tableGfn: number;
}

/** Grant references of a buffer's pages; those below are reserved. */
export const FIRST_BUFFER_REF = 8;
const GTF_permit_access = 1;

export class SharedBuffer implements IntervalOps {
  /** Pages that the callback could not take away. */
  kept = 0;
  private readonly mm: Mm;
  private readonly port: Hypercalls;
  private readonly memory: XenMemory;
  private readonly config: SharedBufferConfig;
  private pinned: readonly FrameIndex[] = [];
  private sub = -1;

  constructor(mm: Mm, port: Hypercalls, memory: XenMemory, config: SharedBufferConfig) {
    this.mm = mm;
    this.port = port;
    this.memory = memory;
    this.config = config;
    mm.notifiers.registerDriver(config.driver, this);
    mm.frames.registerTaker((frame) => this.pinned.filter((held) => held === frame).length);
  }

  private get isBlob(): boolean {
    return this.config.share === 'lend' || this.config.share === 'fixed-blob';
  }
  /** A blob is never taken back, so its pages cannot move. */
  private get isPinned(): boolean {
    return this.config.mapping === 'pin' || this.isBlob;
  }

  /** Finds the pages, and shows them: 0, or the errno of whatever refused. Once, by one task, before any of them moves. */
  open(): number {
    const { mm, config } = this;
    if (this.isPinned) {
      const { rc, frames } = getUserPages(mm, config.page, config.count, { write: true, pin: true, longterm: true });
      this.pinned = frames;
      return rc !== 0 ? rc : this.show(frames);
    }
    this.sub = mm.notifiers.insert(config.driver, config.page, config.page + config.count);
    if (this.sub < 0) return this.sub;
    const frames: FrameIndex[] = [];
    for (let page = config.page; page < config.page + config.count; page++) {
      const rc = handleFault(mm, page, true);
      if (rc !== 0) return rc;
      frames.push(pteFrame(mm.pageTable.read(page)));
    }
    return this.show(frames);
  }

  private show(frames: readonly FrameIndex[]): number {
    const { port, config } = this;
    const { domid, gfn, count } = config;
    const gfns = { frames: frames.map((frame) => this.memory.gfnOf(frame)) };
    if (this.isBlob) {
      const { rc } = port.call({ op: 'lend_open', domid, first: gfn, count, order: 0, onFailure: 0 });
      return rc !== 0 ? rc : port.call({ op: 'lend', domid, first: gfn, gfns, flags: 0, sequence: 0 }).rc;
    }
    if (config.share === 'foreign') {
      const space = physmapSpace.gmfnForeign;
      const gpfns = { start: gfn, count };
      const { rc, errs = [] } = port.call({
        op: 'add_to_physmap_batch',
        domid,
        space,
        foreignDomid: DOMID_SELF,
        idxs: gfns,
        gpfns,
      });
      return rc !== 0 ? rc : (errs.find((error) => error !== 0) ?? 0);
    }
    return this.grant(gfns.frames);
  }

  private grant(gfns: readonly number[]): number {
    const { port, config } = this;
    const table = { domid: DOMID_SELF, space: physmapSpace.grantTable, idx: 0, gpfn: config.tableGfn, size: 0 };
    const { rc } = port.call({ op: 'add_to_physmap', ...table });
    if (rc !== 0) return rc;
    const rest = { start: 0, length: 0, transDomid: 0, transRef: 0 };
    const entry = { gfn: config.tableGfn, version: 1, flags: GTF_permit_access, domid: config.domid, ...rest };
    return gfns.reduce(
      (rc, frame, i) => rc || port.call({ op: 'grant_entry_set', ...entry, index: FIRST_BUFFER_REF + i, frame }).rc,
      0,
    );
  }

  /** The guest has what it is shown: of grants, it has mapped all of them. */
  get isTaken(): boolean {
    const { port, config } = this;
    if (config.share !== 'grant') return true;
    const query = { op: 'grant_entry_query', gfn: config.tableGfn, version: 1 } as const;
    const calls = Array.from({ length: config.count }, (_, i) => ({ ...query, index: FIRST_BUFFER_REF + i }));
    return port.multicall(calls).every((answer) => 'inUse' in answer && answer.inUse === true);
  }

  /** One page leaves the guest: 0, or -EBUSY: it has it mapped, and that is its affair. */
  private takeBack(i: number): number {
    const { port, config } = this;
    if (config.share === 'foreign') {
      return port.call({ op: 'remove_from_physmap', domid: config.domid, gpfn: config.gfn + i }).rc;
    }
    return port.call({ op: 'grant_entry_end', gfn: config.tableGfn, index: FIRST_BUFFER_REF + i, version: 1 }).rc;
  }

  /** After the guest has let go of what it mapped. */
  close(): void {
    const { mm, port, config } = this;
    if (this.sub >= 0) mm.notifiers.remove(this.sub);
    if (this.isBlob) port.call({ op: 'lend_close', domid: config.domid, first: config.gfn });
    else for (let i = 0; i < config.count; i++) this.takeBack(i);
    putUserPages(mm, this.pinned, true, true);
    this.pinned = [];
  }

  /** It must succeed where it may block; that it cannot is what it says, and its kernel goes on all the same. */
  invalidate(sub: number, range: NotifierRange, sequence: Sequence): boolean {
    const { mm, config } = this;
    const lock = mm.driverLock(config.driver);
    if (range.blockable) lock.lock();
    else if (!lock.tryLock()) return false;
    try {
      mm.notifiers.setSequence(sub, sequence);
      const end = Math.min(range.end, config.page + config.count);
      for (let page = Math.max(range.start, config.page); page < end; page++) this.takeAway(page);
      return true;
    } finally {
      lock.unlock();
    }
  }

  private takeAway(page: number): void {
    const { mm, config } = this;
    if (!hasFrame(mm.pageTable.peek(page)) || this.takeBack(page - config.page) !== -errno.EBUSY) return;
    this.kept++;
    const text =
      `page ${page} is granted to d${config.domid}, which has it mapped: the callback cannot take it back, and its kernel ` +
      'gives the frame to something else';
    mm.platform.violation({ invariant: 'noGrantedPageFreedWhileMapped', text, evidence: { page } });
  }
}
