// gntdev: grants of another domain in the memory of a process (drivers/xen/gntdev.c), with the notifier that its PV mode has.
// When the process unmaps them, pages may still have references, of direct I/O or of a GPU. The old driver waited for those in
// its callback, which can be a circle; today's takes note, returns, and a worker unmaps when the references are gone.
// Deviation: the mapping is made over an unpopulated gfn, as in a translated domain; a PV domain's is made in its page table.
import type { Hypercalls } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import { type FrameIndex, NO_FRAME } from './frame-pools.ts';
import { GntdevState, MAP_PAGES } from './gntdev-state.ts';
import type { Mm } from './mm.ts';
import type { IntervalOps, NotifierRange } from './notifiers.ts';
import { frameEntry, pte } from './page-table.ts';
import type { Sequence } from './sequence.ts';
import type { XenMemory } from './xen-memory.ts';

export interface GntdevConfig {
  readonly driver: number;
  readonly unmap: 'synchronous' | 'asynchronous';
}

const GNTMAP_host_map = 2;
/** Milliseconds between two looks at pages that are still referred to, times the number of the attempt (gnttab_unmap_refs_async). */
const RETRY_MS = 5;

export class Gntdev implements IntervalOps {
  readonly state: GntdevState;
  private readonly mm: Mm;
  private readonly port: Hypercalls;
  private readonly memory: XenMemory;
  private readonly config: GntdevConfig;

  constructor(mm: Mm, buffer: SharedArrayBuffer, port: Hypercalls, memory: XenMemory, config: GntdevConfig) {
    this.mm = mm;
    this.port = port;
    this.memory = memory;
    this.config = config;
    this.state = new GntdevState(buffer);
    mm.notifiers.registerDriver(config.driver, this);
    mm.frames.registerTaker((frame) => this.ownReferences(frame));
  }

  private ownReferences(frame: FrameIndex): number {
    return this.state
      .maps()
      .filter((map) => this.pagesOf(map).some((i) => this.state.page(map, i, 'frame') === frame + 1)).length;
  }

  private pagesOf(map: number): number[] {
    return Array.from({ length: this.state.get(map, 'count') }, (_, i) => i);
  }

  private locked<T>(what: () => T): T {
    const lock = this.mm.driverLock(this.config.driver);
    lock.lock();
    try {
      return what();
    } finally {
      lock.unlock();
    }
  }

  /** IOCTL_GNTDEV_MAP_GRANT_REF: a map's number, or -EINVAL, -ENOMEM. */
  addMap(domid: number, refs: readonly number[]): number {
    if (refs.length === 0 || refs.length > MAP_PAGES) return -errno.EINVAL;
    return this.locked(() => {
      const map = this.state.take();
      if (map < 0) return -errno.ENOMEM;
      this.state.set(map, 'domid', domid);
      this.state.set(map, 'count', refs.length);
      for (const [i, ref] of refs.entries()) this.state.setPage(map, i, 'ref', ref);
      return map;
    });
  }

  /**
   * mmap of a map at `start`. -EAGAIN while grants of an earlier one are still mapped; -EINVAL: there is something, or the other
   * domain does not grant it; -ENOMEM.
   */
  mmap(map: number, start: number): number {
    const { mm, state } = this;
    const count = state.get(map, 'count');
    mm.mmap.writeLock();
    try {
      return this.locked(() => {
        if (state.get(map, 'live') > 0) return -errno.EAGAIN;
        if (!mm.vmas.add({ kind: 'grant', start, end: start + count, writable: true, limit: start + count })) {
          return -errno.EINVAL;
        }
        const sub = mm.notifiers.insert(this.config.driver, start, start + count);
        const rc = sub < 0 ? sub : this.mapGrants(map);
        if (rc !== 0) {
          mm.vmas.remove(start);
          return rc;
        }
        state.set(map, 'sub', sub + 1);
        state.set(map, 'start', start);
        for (const i of this.pagesOf(map)) this.showPage(map, i, start + i);
        return 0;
      });
    } finally {
      mm.mmap.writeUnlock();
    }
  }

  private showPage(map: number, i: number, page: number): void {
    const { mm } = this;
    const frame = this.frameOf(map, i);
    mm.pageTableLock.lock();
    mm.frames.get(frame, false);
    mm.frames.show(frame, page);
    mm.pageTable.write(page, frameEntry(frame, pte.present | pte.write | pte.dirty));
    mm.pageTableLock.unlock();
  }

  private frameOf(map: number, i: number): FrameIndex {
    return (this.state.page(map, i, 'frame') - 1) as FrameIndex; // stored by mapGrants, from the pool
  }

  /** All of them or none (gntdev_map_grant_pages answers -EINVAL if one is refused). */
  private mapGrants(map: number): number {
    const { mm, state } = this;
    const domid = state.get(map, 'domid');
    for (const i of this.pagesOf(map)) {
      const frame = mm.frames.alloc('slot');
      if (frame === NO_FRAME) return this.unmapPages(map, this.pagesOf(map)) ?? -errno.ENOMEM;
      state.setPage(map, i, 'frame', frame + 1);
      state.setPage(map, i, 'removing', 0);
    }
    const ops = this.pagesOf(map).map((i) => ({
      hostAddr: this.memory.gfnOf(this.frameOf(map, i)) * 4096,
      flags: GNTMAP_host_map,
      ref: state.page(map, i, 'ref'),
      domid,
    }));
    const { results = [] } = this.port.call({ op: 'gnttab_map_grant_ref', ops });
    for (const i of this.pagesOf(map)) {
      const result = results[i];
      if (result?.status === 0) state.setPage(map, i, 'handle', result.handle + 1);
    }
    const mapped = this.pagesOf(map).filter((i) => state.page(map, i, 'handle') !== 0);
    state.set(map, 'live', mapped.length);
    if (mapped.length === ops.length) return 0;
    this.unmapPages(map, this.pagesOf(map));
    return -errno.EINVAL;
  }

  /** Gives grants back to Xen and slots to the pool. Null, so that a caller may add its errno. */
  private unmapPages(map: number, pages: readonly number[]): null {
    const { mm, state } = this;
    const mapped = pages.filter((i) => state.page(map, i, 'handle') !== 0);
    const ops = mapped.map((i) => ({
      hostAddr: this.memory.gfnOf(this.frameOf(map, i)) * 4096,
      devBusAddr: 0,
      handle: state.page(map, i, 'handle') - 1,
    }));
    if (ops.length > 0) this.port.call({ op: 'gnttab_unmap_grant_ref', ops });
    state.set(map, 'live', state.get(map, 'live') - mapped.length);
    for (const i of pages) {
      const frame = this.frameOf(map, i);
      state.setPage(map, i, 'handle', 0);
      state.setPage(map, i, 'frame', 0);
      if (frame !== NO_FRAME) mm.frames.put(frame);
    }
    return null;
  }

  /** The notifier's callback. It cannot be done without sleeping, so a range that is not blockable is refused. */
  invalidate(sub: number, range: NotifierRange, sequence: Sequence): boolean {
    if (!range.blockable) return false;
    return this.locked(() => {
      this.mm.notifiers.setSequence(sub, sequence);
      const map = this.state.maps().find((candidate) => this.state.get(candidate, 'sub') === sub + 1);
      if (map === undefined) return true;
      const start = this.state.get(map, 'start');
      const pages = this.pagesOf(map).filter((i) => start + i >= range.start && start + i < range.end);
      const mapped = pages.filter((i) => this.state.page(map, i, 'handle') !== 0);
      if (this.config.unmap === 'synchronous') this.unmapNow(map, mapped);
      else for (const i of mapped) this.state.setPage(map, i, 'removing', 1);
      return true;
    });
  }

  /** As gnttab_unmap_refs_sync: sleeps until nobody but the page table and gntdev refers to a page. */
  private unmapNow(map: number, pages: readonly number[]): void {
    for (const i of pages) this.mm.frames.waitForReferences(this.frameOf(map, i), 2);
    this.unmapPages(map, pages);
  }

  /** After munmap: the subscription goes, and so does the map once nothing of it is mapped. May sleep. */
  close(map: number): void {
    const sub = this.state.get(map, 'sub') - 1;
    if (sub >= 0) this.mm.notifiers.remove(sub);
    this.locked(() => {
      this.state.set(map, 'sub', 0);
      if (this.state.get(map, 'live') === 0) this.state.set(map, 'used', 0);
    });
  }

  /** What Xen does when the kernel that mapped them is gone: every grant is unmapped, whoever refers to its page. */
  releaseAll(): void {
    const { state, port } = this;
    for (const map of state.maps()) {
      const ops = this.pagesOf(map)
        .filter((i) => state.page(map, i, 'handle') !== 0)
        .map((i) => ({
          hostAddr: this.memory.gfnOf(this.frameOf(map, i)) * 4096,
          devBusAddr: 0,
          handle: state.page(map, i, 'handle') - 1,
        }));
      if (ops.length > 0) port.call({ op: 'gnttab_unmap_grant_ref', ops });
      for (const i of this.pagesOf(map)) state.setPage(map, i, 'handle', 0);
    }
  }

  /** The worker's round at `now` (ms): unmaps what nobody refers to any more. Answers when to come again; Infinity: nothing left. */
  runWork(now: number): number {
    return this.locked(() =>
      Math.min(...this.state.maps().map((map) => this.workOn(map, now)), Number.POSITIVE_INFINITY),
    );
  }

  private workOn(map: number, now: number): number {
    const { state, mm } = this;
    const leaving = this.pagesOf(map).filter((i) => state.page(map, i, 'removing') !== 0);
    if (leaving.length === 0) return Number.POSITIVE_INFINITY;
    if (now < state.get(map, 'due')) return state.get(map, 'due');
    // One page with another reference puts all of the operation off.
    if (leaving.some((i) => mm.frames.references(this.frameOf(map, i)) > 1)) {
      const attempt = state.get(map, 'attempt') + 1;
      state.set(map, 'attempt', attempt);
      state.set(map, 'due', now + RETRY_MS * attempt);
      return state.get(map, 'due');
    }
    for (const i of leaving) state.setPage(map, i, 'removing', 0);
    this.unmapPages(map, leaving);
    state.set(map, 'attempt', 0);
    if (state.get(map, 'sub') === 0 && state.get(map, 'live') === 0) state.set(map, 'used', 0);
    return Number.POSITIVE_INFINITY;
  }
}
