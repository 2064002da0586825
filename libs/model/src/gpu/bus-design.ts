// How a guest's frame becomes a number that the shared GPU can use, in the three designs of the debate of December 2014, and the
// way that cannot work. All go through dom0's hypercalls and nothing else, in batches:
//   A   the machine frame, by a query; dom0 is PV and its I/O tables map all of RAM 1:1; nothing holds the frame
//   B   a bus frame above RAM that PV-IOMMU maps and references; dom0 never sees an mfn
//   C   a gfn of a PVH dom0 where the frame is foreign-mapped; its I/O tables follow its p2m
//   gpa what the guest wrote, foreign-mapped at that very gfn of dom0: two guests' numbers collide

import { DOMID_SELF } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { Call, Hypercalls, IommuOp } from '../hypercall/calls.ts';
import { physmapSpace } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { busBase, busCount, mediatorWindow } from '../iommu/bus-space.ts';
import { iommuOpFlag } from '../iommu/pv-iommu.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import type { GpuState } from './gpu-memory.ts';
import { POISON } from './pte.ts';
import { Window } from './window.ts';

export interface BusDesign {
  /** A bus frame per gfn, POISON where the guest has no RAM of that kind. */
  map(domid: number, gfns: readonly number[]): number[];
  /** Gives them back; on return no I/O table and no IOTLB has them. */
  unmap(buses: readonly number[]): void;
  /** Makes a guest's table page readable and writable for the mediator's CPU: a handle, or -1. */
  mapTable(domid: number, gfn: number): number;
  unmapTable(handle: number): void;
  /** The frame behind a handle now, or -1. */
  tableFrame(handle: number): number;
}

/** Attempts to find a bus frame that no other mediator still uses; many, since those lie side by side. */
const ATTEMPTS = 64;
/** Operations of one call. */
const BATCH = 1024;

function inBatches<T>(items: readonly T[], run: (batch: readonly T[]) => void): void {
  for (let at = 0; at < items.length; at += BATCH) run(items.slice(at, at + BATCH));
}

/** Foreign maps at gfns of a translated dom0. */
class ForeignMaps {
  private readonly h: Host;
  private readonly port: Hypercalls;
  private readonly window: Window;
  private readonly start: number;

  constructor(h: Host, port: Hypercalls, gpu: GpuState, window: Window) {
    this.h = h;
    this.port = port;
    this.window = window;
    this.start = mediatorWindow(h.config, gpu.index).start;
  }

  /** At free gfns of the window. */
  map(domid: number, gfns: readonly number[]): number[] {
    const places = gfns.map(() => this.window.take());
    const wanted = gfns.flatMap((gfn, i) =>
      (places[i] as number) < 0 ? [] : [{ gfn, at: this.start + (places[i] as number) }],
    );
    const done = new Set(this.mapAt(domid, wanted));
    return places.map((place) => {
      if (place >= 0 && done.has(this.start + place)) return this.start + place;
      this.window.release(place);
      return POISON;
    });
  }

  /** At those gfns; answers where it worked. */
  mapAt(domid: number, wanted: readonly { readonly gfn: number; readonly at: number }[]): number[] {
    const done: number[] = [];
    inBatches(wanted, (batch) => {
      const { errs } = this.port.call({
        op: 'add_to_physmap_batch',
        domid: DOMID_SELF,
        space: physmapSpace.gmfnForeign,
        foreignDomid: domid,
        idxs: { frames: batch.map(({ gfn }) => gfn) },
        gpfns: { frames: batch.map(({ at }) => at) },
      });
      for (const [i, { at }] of batch.entries()) if (errs?.[i] === 0) done.push(at);
    });
    return done;
  }

  unmap(at: readonly number[]): void {
    inBatches(at, (batch) => {
      const calls = batch.map((gpfn): Call => ({ op: 'remove_from_physmap', domid: DOMID_SELF, gpfn }));
      this.port.multicall(calls);
      for (const gpfn of batch) this.window.release(gpfn - this.start);
    });
  }

  /** As the mediator's CPU finds it through dom0's own p2m. */
  frame(at: number): number {
    const leaf = new Leaf();
    const m = peekEntry(this.h, this.h.dom0, at, leaf);
    return leaf.type === p2mType.mapForeign ? m : -1;
  }
}

/** A mediator in a PVH dom0 reads guest tables by foreign maps, whatever its shadow entries hold. */
abstract class OnPvhDom0 implements BusDesign {
  protected readonly foreign: ForeignMaps;

  constructor(foreign: ForeignMaps) {
    this.foreign = foreign;
  }

  abstract map(domid: number, gfns: readonly number[]): number[];
  abstract unmap(buses: readonly number[]): void;

  mapTable(domid: number, gfn: number): number {
    const at = this.foreign.map(domid, [gfn])[0] as number; // one gfn, one answer
    return at === POISON ? -1 : at;
  }
  unmapTable(handle: number): void {
    this.foreign.unmap([handle]);
  }
  tableFrame(handle: number): number {
    return this.foreign.frame(handle);
  }
}

class DesignC extends OnPvhDom0 {
  map(domid: number, gfns: readonly number[]): number[] {
    return this.foreign.map(domid, gfns);
  }
  unmap(buses: readonly number[]): void {
    this.foreign.unmap(buses);
  }
}

/** No shadowing of numbers: the guest's gfn is the device's. Whatever dom0 has there gives way, another guest's frame too. */
class GuestAddresses extends OnPvhDom0 {
  map(domid: number, gfns: readonly number[]): number[] {
    const done = new Set(
      this.foreign.mapAt(
        domid,
        gfns.map((gfn) => ({ gfn, at: gfn })),
      ),
    );
    return gfns.map((gfn) => (done.has(gfn) ? gfn : POISON));
  }
  unmap(buses: readonly number[]): void {
    this.foreign.unmap(buses);
  }
}

class DesignB extends OnPvhDom0 {
  private readonly port: Hypercalls;
  private readonly bfns: Window;
  private readonly first: number;
  /** Others may have mapped a frame already. */
  private readonly shared: boolean;

  constructor(h: Host, port: Hypercalls, gpu: GpuState, foreign: ForeignMaps) {
    super(foreign);
    const mediators = h.gpus.all.length;
    this.port = port;
    const count = Math.floor(busCount(h.config) / mediators);
    this.bfns = new Window(gpu.bfns, count);
    this.first = busBase(h.config) + gpu.index * count;
    this.shared = mediators > 1;
  }

  private run(ops: readonly IommuOp[]): readonly number[] {
    const statuses: number[] = [];
    inBatches(ops, (batch) => {
      const answer = this.port.call({ op: 'iommu_op', ops: batch });
      for (let i = 0; i < batch.length; i++) statuses.push(answer.statuses?.[i] ?? (answer.rc || -errno.EIO));
    });
    return statuses;
  }

  map(domid: number, gfns: readonly number[]): number[] {
    const buses = gfns.map(() => POISON as number);
    let left = [...gfns.keys()];
    if (this.shared) {
      const op = (i: number): IommuOp => ({
        kind: 'lookup_foreign_page',
        bfn: 0,
        gfn: gfns[i] as number,
        domid,
        flags: 0,
      });
      const known = this.run(left.map(op));
      for (const i of left) if ((known[i] as number) >= 0) buses[i] = known[i] as number;
      // -ENOENT: a page that nobody has mapped yet. All else is no page that could be.
      left = left.filter((i) => known[i] === -errno.ENOENT);
    }
    const flags = iommuOpFlag.readable | iommuOpFlag.writeable | iommuOpFlag.addM2b;
    for (let attempt = 0; attempt < ATTEMPTS && left.length > 0; attempt++) {
      const places = left.map(() => this.bfns.take());
      const wanted = left.flatMap((i, n) =>
        (places[n] as number) < 0 ? [] : [{ i, bfn: this.first + (places[n] as number) }],
      );
      const statuses = this.run(
        wanted.map(({ i, bfn }) => ({ kind: 'map_foreign_page', bfn, gfn: gfns[i] as number, domid, flags })),
      );
      for (const [n, { i, bfn }] of wanted.entries()) {
        if (statuses[n] === 0) buses[i] = bfn;
        else this.bfns.release(bfn - this.first);
      }
      // "Another mediator still has this bus frame": try another one. Alone it says that there is no such page.
      left = this.shared ? wanted.flatMap(({ i }, n) => (statuses[n] === -errno.EPERM ? [i] : [])) : [];
    }
    return buses;
  }

  unmap(buses: readonly number[]): void {
    this.run(buses.map((bfn) => ({ kind: 'unmap_foreign_page', bfn, gfn: 0, domid: 0, flags: 0 })));
    for (const bfn of buses) this.bfns.release(bfn - this.first);
  }
}

/** Of a PV dom0: its own frame numbers are machine frames, and so are its mediator's handles. (Its page-table updates are not modelled.) */
class DesignA implements BusDesign {
  private readonly port: Hypercalls;

  constructor(port: Hypercalls) {
    this.port = port;
  }

  map(domid: number, gfns: readonly number[]): number[] {
    const { mfns } = this.port.call({ op: 'gfn_to_mfn', domid, gfns: { frames: gfns } });
    return gfns.map((_, i) => {
      const m = mfns?.[i] ?? -1;
      return m < 0 ? POISON : m;
    });
  }
  unmap(): void {}
  mapTable(domid: number, gfn: number): number {
    return this.port.call({ op: 'gfn_to_mfn', domid, gfns: { frames: [gfn] } }).mfns?.[0] ?? -1;
  }
  unmapTable(): void {}
  tableFrame(handle: number): number {
    return handle;
  }
}

/** The design that the host's policy names, over dom0's port. */
export function busDesign(h: Host, port: Hypercalls, gpu: GpuState): BusDesign {
  const { mediated } = h.config.policies;
  if (mediated === 'A') return new DesignA(port);
  const window = new Window(gpu.window);
  const foreign = new ForeignMaps(h, port, gpu, window);
  if (mediated === 'B') return new DesignB(h, port, gpu, foreign);
  return mediated === 'C' ? new DesignC(foreign) : new GuestAddresses(foreign);
}
