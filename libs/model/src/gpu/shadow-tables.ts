// Shadow GPU tables: made from guest tables, kept in step with them, taken down. Guest entries name gfns, shadow entries what the
// design gives for them. Only the mediator's thread is here; the GPU reads the shadow at any time.
//
// Order when a frame leaves: shadow entry cleared → GPU TLB flushed and its accesses ended → unmapped and IOTLB flushed (the
// design's hypercalls) → reference dropped (Xen). The first is done at once, the rest once per request in `settle`.
// Order when a table comes: its page is write-protected, then read. Policy mediator: walk-first does it the other way round, so
// that an entry written in between is never seen; tlb-late flushes the GPU's TLB only at the next submission.

import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { Hypercalls } from '../hypercall/calls.ts';
import { hvmMem } from '../hypercall/calls.ts';
import { counter } from '../shared-memory/counters.ts';
import { load, publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import type { BusDesign } from './bus-design.ts';
import { CONTEXTS_PER_VM, type GpuState, type SharedDoubles, VM_CELLS, vmCell } from './gpu-memory.ts';
import { ENTRIES, isUsable, makePte, POISON, PTE_PRESENT, PTE_WRITE, pteFrame, ptePresent } from './pte.ts';
import { TrackedTables, tableState } from './tracked-tables.ts';

const C_COMPARE = counter('gpu.compare');
const C_WRITE = counter('gpu.shadowWrite');
const C_FLUSH = counter('gpu.tlbFlush');
/** Trapped writes of one table between two submissions that make it hot (hybrid); submissions without a change that cool it. */
const HOT_WRITES = 32;
const COLD_SUBMITS = 4;

/** A guest, as its mediator sees it. */
export interface Client {
  readonly slot: number;
  readonly domid: number;
  /** The mediator has the claim on its ioreq_server pages; without it nothing can be trapped. */
  readonly traps: boolean;
}

interface Change {
  readonly at: number;
  readonly pte: number;
}

export class ShadowTables {
  readonly tables: TrackedTables;
  private readonly h: Host;
  private readonly port: Hypercalls;
  private readonly gpu: GpuState;
  private readonly design: BusDesign;
  /** What left in this request and waits for the flush: bus frames, table handles, records. */
  private buses: number[] = [];
  private retired: number[] = [];

  constructor(h: Host, port: Hypercalls, gpu: GpuState, design: BusDesign) {
    this.h = h;
    this.port = port;
    this.gpu = gpu;
    this.design = design;
    this.tables = new TrackedTables(gpu);
  }

  /** The record of that guest page as a table of `level`, made if need be, one user more. -1: it cannot be one. */
  track(client: Client, gfn: number, level: number): number {
    const known = this.tables.find(client.slot, gfn);
    if (known >= 0) {
      // A page that serves as tables of two levels is refused: it would lead to itself.
      if (this.tables.get(known, 'level') !== level) return -1;
      this.tables.set(known, 'users', this.tables.get(known, 'users') + 1);
      return known;
    }
    const handle = this.design.mapTable(client.domid, gfn);
    if (handle < 0) return -1;
    const table = this.tables.take(client.slot, gfn, level, handle);
    if (table < 0) {
      this.design.unmapTable(handle);
      return -1;
    }
    const walkFirst = this.h.config.policies.mediator === 'walk-first';
    if (walkFirst) this.sync(client, table);
    if (this.h.config.policies.gpuShadow !== 'relaxed') this.protect(client, table);
    if (!walkFirst) this.sync(client, table);
    return table;
  }

  /** One user less; the last one takes the table down. */
  untrack(client: Client, table: number): void {
    const { tables, gpu } = this;
    const users = tables.get(table, 'users') - 1;
    tables.set(table, 'users', users);
    if (users > 0) return;
    if (tables.get(table, 'state') === tableState.strict) this.unprotect(client, table);
    tables.set(table, 'state', tableState.retired);
    this.retired.push(table);
    const changes: Change[] = [];
    for (let i = 0; i < ENTRIES; i++)
      if (gpu.seen[table * ENTRIES + i] !== 0) changes.push({ at: table * ENTRIES + i, pte: 0 });
    this.apply(client, tables.get(table, 'level'), changes);
  }

  /** Compares the whole table with what the shadow was made from. Answers how many entries differed. */
  sync(client: Client, table: number): number {
    const { h, gpu } = this;
    const m = this.design.tableFrame(this.tables.get(table, 'handle'));
    const changes: Change[] = [];
    for (let i = 0; i < ENTRIES; i++) {
      const pte = m < 0 ? 0 : h.gpus.contents.read(m as Mfn, i);
      if (pte !== gpu.seen[table * ENTRIES + i]) changes.push({ at: table * ENTRIES + i, pte });
    }
    h.counters.add(C_COMPARE, ENTRIES);
    this.apply(client, this.tables.get(table, 'level'), changes);
    return changes.length;
  }

  /** A trapped write: the guest's page first, then the shadow. A page that has stopped being a table is only written. */
  write(client: Client, gfn: number, index: number, pte: number): void {
    const { tables, design, h } = this;
    const table = tables.find(client.slot, gfn);
    const handle = table < 0 ? design.mapTable(client.domid, gfn) : tables.get(table, 'handle');
    if (handle < 0) return;
    const m = design.tableFrame(handle);
    if (m >= 0) h.gpus.contents.write(m as Mfn, index, pte);
    if (table < 0) {
      design.unmapTable(handle);
      return;
    }
    this.apply(client, tables.get(table, 'level'), [{ at: table * ENTRIES + index, pte }]);
    const writes = tables.get(table, 'writes') + 1;
    tables.set(table, 'writes', writes);
    if (writes >= HOT_WRITES && h.config.policies.gpuShadow === 'hybrid') this.unprotect(client, table);
  }

  /** An entry of the global table; the caller has looked whose it is. */
  writeGlobal(client: Client, page: number, pte: number): void {
    const { ggtt, guestGgtt } = this.gpu;
    this.applyPages(client, ggtt, guestGgtt, [{ at: page, pte }]);
  }

  /** Before a job runs: tables whose writes were not seen are read again, and the GPU forgets what has changed. */
  prepare(client: Client): void {
    for (const table of this.tables.of(client.slot)) {
      this.tables.set(table, 'writes', 0);
      if (this.tables.get(table, 'state') !== tableState.oos) continue;
      const changed = this.sync(client, table);
      const quiet = changed > 0 ? 0 : this.tables.get(table, 'quiet') + 1;
      this.tables.set(table, 'quiet', quiet);
      if (quiet < COLD_SUBMITS || this.h.config.policies.gpuShadow !== 'hybrid') continue;
      this.protect(client, table);
      this.sync(client, table);
    }
    this.settle(client);
    if (this.gpu.vms[client.slot * VM_CELLS + vmCell.stale] !== 0) this.flush(client.slot);
  }

  /** Ends a request: what left is unmapped, after the GPU has let go of it. */
  settle(client: Client): void {
    const { buses, retired, tables } = this;
    if (buses.length === 0 && retired.length === 0) return;
    this.buses = [];
    this.retired = [];
    if (this.h.config.policies.mediator !== 'tlb-late') this.flush(client.slot);
    if (buses.length > 0) this.design.unmap(buses);
    for (const table of retired) {
      this.design.unmapTable(tables.get(table, 'handle'));
      tables.set(table, 'state', tableState.none);
    }
  }

  private flush(slot: number): void {
    const { gpu, h } = this;
    gpu.vms[slot * VM_CELLS + vmCell.stale] = 0;
    h.counters.add(C_FLUSH);
    step(stepKind.gpuTlbFlush, gpu.index);
    for (let context = -1; context < CONTEXTS_PER_VM; context++) {
      const id = gpu.tlbId(slot, context);
      gpu.tlb.beginFlush(id);
      gpu.tlb.invalidateDomain(id);
    }
    gpu.inFlight.waitForOpen(0, h.lockTable);
  }

  private protect(client: Client, table: number): void {
    if (!client.traps) return;
    const rc = this.setType(client, table, hvmMem.ioreqServer);
    if (rc === 0) this.tables.set(table, 'state', tableState.strict);
  }

  private unprotect(client: Client, table: number): void {
    // An error says that the page is gone, or the guest: nothing is protected any more.
    this.setType(client, table, hvmMem.ramRw);
    this.tables.set(table, 'state', tableState.oos);
    this.tables.set(table, 'quiet', 0);
  }

  private setType({ domid }: Client, table: number, memType: number): number {
    const first = this.tables.get(table, 'gfn');
    return this.port.call({ op: 'set_mem_type', domid, memType, first, count: 1 }).rc;
  }

  private apply(client: Client, level: number, changes: readonly Change[]): void {
    if (changes.length === 0) return;
    if (level === 1) this.applyPages(client, this.gpu.shadow, this.gpu.seen, changes);
    else this.applyTables(client, level, changes);
  }

  /** Entries that name tables: the new child is complete before it is linked, the old one goes after it is unlinked. */
  private applyTables(client: Client, level: number, changes: readonly Change[]): void {
    const { shadow, seen } = this.gpu;
    for (const { at, pte } of changes) {
      const old = load(shadow, at);
      seen[at] = pte;
      const child = isUsable(pte) ? this.track(client, pteFrame(pte), level - 1) : -1;
      this.store(client, shadow, at, child < 0 ? 0 : makePte(child, PTE_PRESENT | PTE_WRITE));
      if (ptePresent(old)) this.untrack(client, pteFrame(old));
    }
  }

  /** Entries that name pages: all new frames are mapped in one batch, then stored, then the old ones are let go. */
  private applyPages(client: Client, target: SharedDoubles, seen: SharedDoubles, changes: readonly Change[]): void {
    const { frames } = this.gpu;
    const { slot } = client;
    this.acquire(client, changes);
    const left: number[] = [];
    for (const { at, pte } of changes) {
      const old = load(target, at);
      if (ptePresent(old) && pteFrame(old) !== POISON) left.push(pteFrame(seen[at] as number));
      seen[at] = pte;
      const bus = isUsable(pte) ? frames.busOf(slot, pteFrame(pte)) : -1;
      if (bus >= 0) frames.use(slot, pteFrame(pte), 1);
      this.store(client, target, at, shadowOf(pte, bus));
    }
    for (const gfn of left) {
      if (frames.use(slot, gfn, -1) > 0) continue;
      this.buses.push(frames.busOf(slot, gfn));
      frames.remove(slot, gfn);
    }
  }

  /** Frames that no entry names yet, but for pages that are tables themselves: the GPU must not write those. */
  private acquire(client: Client, changes: readonly Change[]): void {
    const { frames } = this.gpu;
    const wanted = new Set<number>();
    for (const { pte } of changes) {
      const gfn = pteFrame(pte);
      if (!isUsable(pte) || wanted.has(gfn) || frames.busOf(client.slot, gfn) >= 0) continue;
      if (this.tables.find(client.slot, gfn) < 0) wanted.add(gfn);
    }
    if (wanted.size === 0) return;
    const gfns = [...wanted];
    for (const [i, bus] of this.design.map(client.domid, gfns).entries()) {
      if (bus === POISON) continue;
      if (frames.isFull) this.buses.push(bus);
      else frames.add(client.slot, gfns[i] as number, bus);
    }
  }

  private store({ slot }: Client, target: SharedDoubles, at: number, value: number): void {
    const old = load(target, at);
    if (old === value) return;
    step(stepKind.shadowWrite, at);
    publish();
    store(target, at, value);
    this.h.counters.add(C_WRITE);
    // The GPU may cache what was there, until the next flush.
    if (ptePresent(old)) this.gpu.vms[slot * VM_CELLS + vmCell.stale] = 1;
  }
}

const shadowOf = (pte: number, bus: number): number => (ptePresent(pte) ? makePte(bus < 0 ? POISON : bus, pte % 4) : 0);
