// The mediator in dom0's kernel (XenGT, GVT-g): gives each guest its part of graphics memory, answers its requests, keeps the
// shadows of its tables. One thread per GPU; it reaches Xen by dom0's hypercalls alone. What it does with a gfn is the design's
// (bus-design.ts), how tables are kept is shadow-tables.ts. Policy mediator: no-invalidate leaves ballooning unheard.
import type { Host } from '../host.ts';
import { type Hypercalls, hvmMem } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { IOREQ_MEM_ACCESS_WRITE } from '../p2m/ioreq-server.ts';
import { counter } from '../shared-memory/counters.ts';
import { busDesign } from './bus-design.ts';
import { CONTEXT_CELLS, CONTEXTS_PER_VM, contextCell, type GpuState, VM_CELLS, vmCell } from './gpu-memory.ts';
import { notifyCode, owns, type Partition, partition } from './graphics-memory.ts';
import { ENTRIES } from './pte.ts';
import { answerAll, forget, type Request, requestKind } from './requests.ts';
import { type Client, ShadowTables } from './shadow-tables.ts';

const C_IOREQ = counter('gpu.ioreq');

const isIndex = (n: number, end: number): boolean => Number.isInteger(n) && n >= 0 && n < end;

export class Mediator {
  readonly shadow: ShadowTables;
  private readonly h: Host;
  private readonly port: Hypercalls;
  private readonly gpu: GpuState;

  /** `port`: dom0's. */
  constructor(h: Host, port: Hypercalls, gpu: GpuState) {
    this.h = h;
    this.port = port;
    this.gpu = gpu;
    this.shadow = new ShadowTables(h, port, gpu, busDesign(h, port, gpu));
  }

  private vm(slot: number, name: keyof typeof vmCell): number {
    return this.gpu.vms[slot * VM_CELLS + vmCell[name]] as number;
  }

  private setVm(slot: number, name: keyof typeof vmCell, value: number): void {
    this.gpu.vms[slot * VM_CELLS + vmCell[name]] = value;
  }

  private client(slot: number): Client | null {
    const domid = this.vm(slot, 'domid') - 1;
    return domid < 0 ? null : { slot, domid, traps: this.vm(slot, 'traps') !== 0 };
  }

  partitionOf(slot: number): Partition {
    return {
      mappable: { base: this.vm(slot, 'lowBase'), size: this.vm(slot, 'lowSize') },
      unmappable: { base: this.vm(slot, 'highBase'), size: this.vm(slot, 'highSize') },
    };
  }

  /**
   * A guest gets a virtual GPU with so many pages of graphics memory. 0; -ESRCH; -EEXIST: it has one; -ENOSPC: no room; or what
   * its ioreq server answers. Where another mediator has the claim on its pages, writes are compared instead of trapped.
   */
  attach(domid: number, mappable: number, unmappable: number): number {
    const d = this.h.domain(domid);
    if (!d || d.dying) return -errno.ESRCH;
    if (this.vm(d.slot, 'domid') === domid + 1) return -errno.EEXIST;
    // What a dead domain left in the slot goes first.
    if (this.vm(d.slot, 'domid') !== 0) this.detachSlot(d.slot);
    const slots = Array.from({ length: this.h.config.maxDomains }, (_, slot) => slot);
    const others = slots.filter((slot) => this.vm(slot, 'domid') !== 0).map((slot) => this.partitionOf(slot));
    const part = partition(this.gpu.config, mappable, unmappable, others);
    if (part === null) return -errno.ENOSPC;
    const created = this.port.call({ op: 'create_ioreq_server', domid });
    if (created.rc !== 0) return created.rc;
    const id = created.id ?? 0;
    const claim = this.claim(domid, id, IOREQ_MEM_ACCESS_WRITE);
    if (claim !== 0 && claim !== -errno.EBUSY) {
      this.port.call({ op: 'destroy_ioreq_server', domid, id });
      return claim;
    }
    forget(this.gpu, d.slot);
    const { mappable: low, unmappable: high } = part;
    const record = [domid + 1, low.base, low.size, high.base, high.size, id + 1, claim === 0 ? 1 : 0, 0, 0];
    this.gpu.vms.set(record, d.slot * VM_CELLS);
    return 0;
  }

  private claim(domid: number, id: number, flags: number): number {
    return this.port.call({ op: 'map_mem_type_to_ioreq_server', domid, id, memType: hvmMem.ioreqServer, flags }).rc;
  }

  /** The guest leaves, or is dead (its frames stay zombies until this). 0 or -ESRCH. */
  detach(domid: number): number {
    for (let slot = 0; slot < this.h.config.maxDomains; slot++) {
      if (this.vm(slot, 'domid') !== domid + 1) continue;
      this.detachSlot(slot);
      return 0;
    }
    return -errno.ESRCH;
  }

  private detachSlot(slot: number): void {
    const client = this.client(slot);
    if (client === null) return;
    this.dropAll(client);
    this.gpu.contexts.fill(0, this.contextAt(slot, 0), this.contextAt(slot, CONTEXTS_PER_VM));
    const { mappable, unmappable } = this.partitionOf(slot);
    for (const { base, size } of [mappable, unmappable]) this.gpu.guestGgtt.fill(0, base, base + size);
    // Xen destroys the servers of a dying domain itself.
    const d = this.h.domain(client.domid);
    if (d && !d.dying) {
      const id = this.vm(slot, 'server') - 1;
      if (client.traps) this.claim(client.domid, id, 0);
      this.port.call({ op: 'destroy_ioreq_server', domid: client.domid, id });
    }
    this.gpu.vms.fill(0, slot * VM_CELLS, (slot + 1) * VM_CELLS);
  }

  /** Answers what guests have asked; how much it was. */
  serve(): number {
    return answerAll(this.gpu, (request) => this.answer(request));
  }

  private answer(request: Request): number {
    const client = this.client(request.slot);
    if (client === null) return -errno.ENODEV;
    const { a, b, c } = request;
    switch (request.kind) {
      case requestKind.pteWrite:
        this.h.counters.add(C_IOREQ);
        if (isIndex(b, ENTRIES)) this.shadow.write(client, a, b, c);
        this.shadow.settle(client);
        return 0;
      case requestKind.globalWrite:
        this.h.counters.add(C_IOREQ);
        return this.globalWrite(client, a, b);
      case requestKind.notify:
        return this.notify(client, a, b, c);
      case requestKind.submit:
        return this.submit(client, a);
      case requestKind.tlbInvalidate:
        this.shadow.prepare(client);
        return 0;
      case requestKind.invalidate:
        if (this.h.config.policies.mediator !== 'no-invalidate') this.invalidate(client);
        return 0;
      default:
        return -errno.EOPNOTSUPP;
    }
  }

  /** Outside the guest's slices nothing happens; it is told nothing either, as on hardware. */
  private globalWrite(client: Client, page: number, pte: number): number {
    if (!Number.isInteger(page) || !owns(this.partitionOf(client.slot), page)) return 0;
    this.shadow.writeGlobal(client, page, pte);
    this.shadow.settle(client);
    return 0;
  }

  private contextAt(slot: number, context: number): number {
    return (slot * CONTEXTS_PER_VM + context) * CONTEXT_CELLS;
  }

  /** PVINFO's g2v: a root page comes or goes. 0; -EINVAL; -EBUSY: that context has one; -ENOMEM: it cannot be shadowed. */
  private notify(client: Client, code: number, context: number, gfn: number): number {
    if (!isIndex(context, CONTEXTS_PER_VM)) return -errno.EINVAL;
    const at = this.contextAt(client.slot, context);
    const { contexts } = this.gpu;
    switch (code) {
      case notifyCode.l3Create:
      case notifyCode.l4Create: {
        if (contexts[at] !== 0) return -errno.EBUSY;
        const levels = code === notifyCode.l4Create ? 4 : 3;
        const table = this.shadow.track(client, gfn, levels);
        if (table >= 0) contexts.set([levels, gfn, table + 1], at);
        this.shadow.settle(client);
        return table < 0 ? -errno.ENOMEM : 0;
      }
      case notifyCode.l3Destroy:
      case notifyCode.l4Destroy: {
        if (contexts[at] !== (code === notifyCode.l4Destroy ? 4 : 3)) return -errno.EINVAL;
        const table = (contexts[at + contextCell.table] as number) - 1;
        contexts.fill(0, at, at + CONTEXT_CELLS);
        if (table >= 0) this.shadow.untrack(client, table);
        this.shadow.settle(client);
        return 0;
      }
      default:
        return -errno.EOPNOTSUPP;
    }
  }

  /** Makes the guest's tables ready for a job of that context (-1: the global table). 0 or -ENOENT. */
  private submit(client: Client, context: number): number {
    if (context !== -1 && !isIndex(context, CONTEXTS_PER_VM)) return -errno.EINVAL;
    if (this.vm(client.slot, 'rebuild') !== 0) this.rebuild(client);
    this.shadow.prepare(client);
    if (context === -1) return 0;
    return this.gpu.contexts[this.contextAt(client.slot, context) + contextCell.table] === 0 ? -errno.ENOENT : 0;
  }

  /**
   * Memory left the guest, Xen does not say which: everything of it is dropped, as QEMU drops its map cache, and made again from
   * the guest's tables at the next submission.
   */
  private invalidate(client: Client): void {
    this.dropAll(client);
    this.setVm(client.slot, 'rebuild', 1);
  }

  /** No shadow entry of the guest is left, and nothing of it is mapped. What it wrote to its slices is remembered. */
  private dropAll(client: Client): void {
    const { contexts, guestGgtt } = this.gpu;
    for (let context = 0; context < CONTEXTS_PER_VM; context++) {
      const at = this.contextAt(client.slot, context) + contextCell.table;
      const table = (contexts[at] as number) - 1;
      contexts[at] = 0;
      if (table >= 0) this.shadow.untrack(client, table);
    }
    const { mappable, unmappable } = this.partitionOf(client.slot);
    for (const { base, size } of [mappable, unmappable]) {
      const written = guestGgtt.slice(base, base + size);
      for (let i = 0; i < size; i++) if (written[i] !== 0) this.shadow.writeGlobal(client, base + i, 0);
      guestGgtt.set(written, base);
    }
    this.shadow.settle(client);
  }

  private rebuild(client: Client): void {
    const { contexts, guestGgtt } = this.gpu;
    this.setVm(client.slot, 'rebuild', 0);
    for (let context = 0; context < CONTEXTS_PER_VM; context++) {
      const at = this.contextAt(client.slot, context);
      if (contexts[at] === 0 || contexts[at + contextCell.table] !== 0) continue;
      const table = this.shadow.track(client, contexts[at + contextCell.gfn] as number, contexts[at] as number);
      contexts[at + contextCell.table] = table + 1;
    }
    const { mappable, unmappable } = this.partitionOf(client.slot);
    for (const { base, size } of [mappable, unmappable]) {
      for (let page = base; page < base + size; page++) {
        if (guestGgtt[page] !== 0) this.shadow.writeGlobal(client, page, guestGgtt[page] as number);
      }
    }
    this.shadow.settle(client);
  }
}
