// A graphics driver's userptr: user memory that its GPU works on (i915, amdgpu, xe). With notifiers the pages may move: the
// callback takes the GPU's entries away, and the next submission looks the pages up again by the sequence protocol. With pins
// they may not. Nothing here knows what the memory is.
import { errno } from '../../hypercall/errno.ts';
import { type FrameIndex, NO_FRAME } from './frame-pools.ts';
import { getUserPages, putUserPages } from './gup.ts';
import type { Mm } from './mm.ts';
import type { IntervalOps, NotifierRange } from './notifiers.ts';
import { type FoundPage, hmmRangeFault } from './page-lookup.ts';
import { SecondaryTable } from './secondary-table.ts';
import { type Sequence, sequenceText } from './sequence.ts';
import { type UserptrConfig, UserptrState } from './userptr-state.ts';
import { waitKind, waitNode } from './wait-graph.ts';

export class Userptr implements IntervalOps {
  readonly config: UserptrConfig;
  readonly state: UserptrState;
  /** The GPU's table: `pagesPerBuffer` entries for each buffer. */
  readonly table: SecondaryTable;
  private readonly mm: Mm;

  constructor(mm: Mm, buffer: SharedArrayBuffer, config: UserptrConfig) {
    this.mm = mm;
    this.config = config;
    this.state = new UserptrState(buffer, config);
    const { pagesPerBuffer } = config;
    this.table = new SecondaryTable(mm, buffer, this.state.tableOffset, {
      name: `${mm.config.drivers[config.driver]}'s GPU`,
      entries: config.buffers * pagesPerBuffer,
      accessors: 1,
      pageOf: (entry) => this.pageOf(entry),
    });
    mm.notifiers.registerDriver(config.driver, this);
    if (this.holdsReferences) {
      mm.frames.registerKeeper((frame) => this.keepersOf(frame));
      mm.frames.registerTaker((frame) => this.table.list().filter((entry) => entry.frame === frame).length);
      mm.graph.register(waitKind.buffer, {
        nameOf: (id) => `userptr buffer ${id}`,
        // Its references go in its own callback: it is up to whoever is invalidating its range.
        holders: (id) =>
          this.config.mapping === 'pin'
            ? []
            : mm.notifiers
                .invalidating(this.state.get(id, 'start'), this.state.get(id, 'start') + this.state.get(id, 'count'))
                .map((task) => ({ to: waitNode(waitKind.task, task), why: 'lets go when its callback is called by' })),
      });
    }
  }

  private get holdsReferences(): boolean {
    return this.config.mapping === 'pin' || this.config.pages === 'gup';
  }
  private get pinned(): boolean {
    return this.config.mapping === 'pin';
  }

  private pageOf(entry: number): number {
    const buffer = Math.floor(entry / this.config.pagesPerBuffer);
    const index = entry % this.config.pagesPerBuffer;
    return index < this.state.get(buffer, 'count') ? this.state.get(buffer, 'start') + index : -1;
  }

  private keepersOf(frame: FrameIndex): { to: ReturnType<typeof waitNode>; why: string }[] {
    const buffers = new Set(
      this.table
        .list()
        .filter((e) => e.frame === frame)
        .map(({ entry }) => Math.floor(entry / this.config.pagesPerBuffer)),
    );
    return [...buffers].map((buffer) => ({ to: waitNode(waitKind.buffer, buffer), why: 'are held by' }));
  }

  /** A buffer object over pages [start, start + count): its number, or -ENOSPC, or what getUserPages answers to a pin. */
  create(start: number, count: number, write: boolean): number {
    const { mm, state, config } = this;
    const lock = mm.driverLock(config.driver);
    lock.lock();
    const buffer = Array.from({ length: config.buffers }, (_, i) => i).find((i) => state.get(i, 'count') === 0) ?? -1;
    if (buffer >= 0) {
      state.set(buffer, 'start', start);
      state.set(buffer, 'count', count);
      state.set(buffer, 'write', write ? 1 : 0);
      state.set(buffer, 'valid', 0);
      state.set(buffer, 'fence', 0);
    }
    lock.unlock();
    if (buffer < 0 || count > config.pagesPerBuffer) return -errno.ENOSPC;
    const rc = this.pinned ? this.pinBuffer(buffer) : mm.notifiers.insert(config.driver, start, start + count);
    if (rc < 0) state.set(buffer, 'count', 0);
    else if (!this.pinned) state.set(buffer, 'sub', rc + 1);
    return rc < 0 ? rc : buffer;
  }

  private pinBuffer(buffer: number): number {
    const write = this.state.get(buffer, 'write') !== 0;
    const flags = { write, pin: true, longterm: true };
    const { rc, frames } = getUserPages(
      this.mm,
      this.state.get(buffer, 'start'),
      this.state.get(buffer, 'count'),
      flags,
    );
    if (rc === 0)
      this.program(
        buffer,
        frames.map((frame) => ({ rc: 0, frame, writable: write })),
      );
    return rc;
  }

  destroy(buffer: number): void {
    const { mm, state } = this;
    const last = state.get(buffer, 'fence');
    if (last !== 0) mm.fences.wait(last);
    const sub = state.get(buffer, 'sub') - 1;
    if (sub >= 0) mm.notifiers.remove(sub);
    const lock = mm.driverLock(this.config.driver);
    lock.lock();
    this.unmap(buffer);
    state.set(buffer, 'sub', 0);
    state.set(buffer, 'count', 0);
    lock.unlock();
  }

  /**
   * A job over all pages of the buffer: its fence, or -EFAULT, -ENOMEM of a page, -EBUSY: the ring is full. A GPU with page faults
   * gets its entries when it asks for them.
   */
  submit(buffer: number, write: boolean, tag: number): number {
    const queue = (): number => this.queue(buffer, write, tag);
    if (this.config.gpuFaults === 'none') return this.bind(buffer, queue);
    const lock = this.mm.driverLock(this.config.driver);
    lock.lock();
    return release(lock, queue());
  }

  /** Under the driver's lock. */
  private queue(buffer: number, write: boolean, tag: number): number {
    if (this.state.ringFull) return -errno.EBUSY;
    const fence = this.mm.fences.create(this.config.engine);
    this.state.push({ buffer, write, tag, fence });
    this.state.set(buffer, 'fence', fence);
    return fence;
  }

  /**
   * Makes the buffer's entries good and runs `then` before anybody can take them away: the fault path of the sequence protocol.
   * Its answer, or the errno of a page.
   */
  bind(buffer: number, then: () => number): number {
    const { mm, state, config } = this;
    const lock = mm.driverLock(config.driver);
    const sub = state.get(buffer, 'sub') - 1;
    for (;;) {
      mm.panicCell.check();
      lock.lock();
      if (state.get(buffer, 'valid') !== 0) return release(lock, then());
      lock.unlock();
      const begun = mm.notifiers.readBegin(sub);
      const { rc, pages } = this.lookUp(buffer, sub, begun);
      if (rc === -errno.EBUSY) continue;
      if (rc !== 0) return rc;
      if (config.retryCheck === 'before-lock' && mm.notifiers.readRetry(sub, begun)) {
        this.forget(pages);
        continue;
      }
      lock.lock();
      const bound = state.get(buffer, 'valid') !== 0;
      if (bound || (config.retryCheck === 'under-lock' && mm.notifiers.readRetry(sub, begun))) {
        lock.unlock();
        this.forget(pages);
        continue;
      }
      this.judgeSequence(buffer, sub, begun);
      this.program(buffer, pages);
      return release(lock, then());
    }
  }

  private lookUp(buffer: number, sub: number, sequence: Sequence): { rc: number; pages: readonly FoundPage[] } {
    const start = this.state.get(buffer, 'start');
    const count = this.state.get(buffer, 'count');
    const write = this.state.get(buffer, 'write') !== 0;
    if (this.config.pages === 'hmm')
      return hmmRangeFault(this.mm, { sub, sequence, start, count, write, ownDevice: true });
    const { rc, frames } = getUserPages(this.mm, start, count, { write, pin: false });
    return { rc, pages: frames.map((frame) => ({ rc: 0, frame, writable: write })) };
  }

  private forget(pages: readonly FoundPage[]): void {
    if (this.config.pages === 'gup')
      putUserPages(
        this.mm,
        pages.map(({ frame }) => frame),
        false,
        false,
      );
  }

  /** Says so when entries are about to be made from what is out of date. */
  private judgeSequence(buffer: number, sub: number, begun: Sequence): void {
    if (!this.mm.notifiers.readRetry(sub, begun)) return;
    const text = `userptr buffer ${buffer} is programmed with pages found at sequence ${sequenceText(begun)}, which has passed`;
    this.mm.platform.violation({ invariant: 'noMappingWithStaleSequence', text, evidence: { buffer, sub } });
  }

  private program(buffer: number, pages: readonly FoundPage[]): void {
    const first = buffer * this.config.pagesPerBuffer;
    for (const [i, { frame, writable }] of pages.entries()) this.table.map(first + i, frame, writable);
    this.state.set(buffer, 'valid', 1);
  }

  /** Takes the GPU's entries of the buffer away; returns when the GPU can no longer reach them. Under the driver's lock. */
  private unmap(buffer: number): void {
    const first = buffer * this.config.pagesPerBuffer;
    const end = first + this.config.pagesPerBuffer;
    const held: FrameIndex[] = [];
    if (this.holdsReferences) {
      for (let entry = first; entry < end; entry++) {
        const frame = this.table.frameOf(entry);
        if (frame !== NO_FRAME) held.push(frame);
      }
    }
    const dirty = this.state.get(buffer, 'write') !== 0;
    this.state.set(buffer, 'valid', 0);
    if (this.table.zap(first, end)) this.table.flush();
    putUserPages(this.mm, held, this.pinned, dirty);
  }

  invalidate(sub: number, range: NotifierRange, sequence: Sequence): boolean {
    const { mm, state, config } = this;
    const lock = mm.driverLock(config.driver);
    const buffer = Array.from({ length: config.buffers }, (_, i) => i).find((i) => state.get(i, 'sub') === sub + 1);
    if (range.blockable) lock.lock();
    else if (!lock.tryLock()) return false;
    try {
      const last = buffer === undefined ? 0 : state.get(buffer, 'fence');
      const busy = config.onInvalidate === 'wait' && last !== 0 && !mm.fences.isSignalled(last);
      // Before anything is touched: a refusal must leave everything as it was.
      if (busy && !range.blockable) return false;
      mm.notifiers.setSequence(sub, sequence);
      if (buffer === undefined) return true;
      if (busy) mm.fences.wait(last);
      this.unmap(buffer);
      return true;
    } finally {
      lock.unlock();
    }
  }
}

function release(lock: { unlock(): void }, result: number): number {
  lock.unlock();
  return result;
}
