// Scrubbing for a domain that is being built. What dead domains left in the frames is cleared by the builder's populate_physmap
// itself, in slices: a half-scrubbed block is parked with the domain between them, so that no guest ever gets one. The parked
// block is the domain's already. As Xen's stash_allocation and get_stashed_allocation; there is one NUMA node here.
import type { Mfn, Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { Domain } from './domain.ts';
import { allocUnscrubbed, putAllocRef } from './memory.ts';

/** Dirty frames between two preemption checks. */
const SCRUB_SLICE = 256;

interface Parked {
  readonly first: Mfn;
  readonly order: Order;
  readonly done: number;
}

/** A zeroed block for the builder; -1: none; 'again': the slice is over, and the block is parked. */
export function allocScrubbed(h: Host, d: Domain, order: Order, preempt: () => boolean): Mfn | -1 | 'again' {
  if (d.dying) return -1;
  const parked = unpark(d);
  let first: Mfn | -1;
  let done = 0;
  if (parked?.order === order) ({ first, done } = parked);
  else {
    if (parked) giveUp(h, parked);
    first = allocUnscrubbed(h, d, order);
  }
  if (first < 0) return -1;
  const pages = 2 ** order;
  for (;;) {
    done += h.frames.scrubDirty((first + done) as Mfn, pages - done, SCRUB_SLICE);
    if (done === pages) return first;
    if (preempt()) {
      park(h, d, { first: first as Mfn, order, done });
      return 'again';
    }
  }
}

/** The domain is built: a block that nobody came back for goes home. A dying domain's goes with the rest of its memory. */
export function dropPendingScrub(h: Host, d: Domain): void {
  const parked = unpark(d);
  if (parked) giveUp(h, parked);
}

function unpark(d: Domain): Parked | null {
  d.locks.pageAlloc.lock();
  const { pendingScrub, pendingScrubOrder: order, pendingScrubDone: done } = d.r;
  d.r.pendingScrub = 0;
  d.locks.pageAlloc.unlock();
  return pendingScrub === 0 ? null : { first: (pendingScrub - 1) as Mfn, order, done };
}

/** Two builders of one domain may both have a block: the later one's stays. */
function park(h: Host, d: Domain, { first, order, done }: Parked): void {
  if (d.dying) return;
  dropPendingScrub(h, d);
  d.locks.pageAlloc.lock();
  d.r.pendingScrub = first + 1;
  d.r.pendingScrubOrder = order;
  d.r.pendingScrubDone = done;
  d.locks.pageAlloc.unlock();
}

function giveUp(h: Host, { first, order }: Parked): void {
  for (let i = 0; i < 2 ** order; i++) putAllocRef(h, (first + i) as Mfn);
}
