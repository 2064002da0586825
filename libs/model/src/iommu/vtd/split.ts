// Splitting a superpage of separate tables, in the three ways of the policy `shatter`:
//   atomic             fill the table aside, one store links it: no instant shows a neighbour unmapped (Xen since 2020)
//   naive              unmap the superpage, flush, then map the other 511 pages one by one: DMA to neighbours faults (seed 001)
//   break-before-make  fill aside, clear the entry, flush, link: the window is short, but it is there (Arm's p2m)
import type { Domain } from '../../domain/domain.ts';
import type { Host } from '../../host.ts';
import type { ModelPolicies } from '../../host-config.ts';
import { SLOT_SP } from '../../p2m/entry.ts';
import { counter } from '../../shared-memory/counters.ts';
import { type Slots, store } from '../../shared-memory/slots.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../../shared-memory/table-pages.ts';
import { emptyTable } from '../contiguity.ts';
import { FLUSHF_all, FLUSHF_modified, type FlushFlags } from '../flags.ts';
import { linkTable } from './entry.ts';
import { vtdIotlbFlush } from './invalidation.ts';

const C_SHATTERS = counter('iommu.ptShatters');

/** How superpages are split on this host, in IOMMU tables and in EPT tables that devices share. */
export const splitStrategy = (h: Host): ModelPolicies['shatter'] => h.config.policies.shatter;

/** A superpage that stands in the way. */
export interface Superpage {
  /** Where its entry is. */
  readonly index: number;
  /** Its slot, marker stripped. */
  readonly leaf: number;
  readonly level: number;
  /** Level that the caller wants to reach. */
  readonly target: number;
  /** Frame that the caller wants to change. */
  readonly dfn: number;
}

/**
 * Fills the table at `at` with one run: `first` in entry 0, each next `stride` more, markers of a whole table. By fours: the
 * loop's own work is a third of the time otherwise.
 */
export function storeLeaves(slots: Slots, at: number, first: number, stride: number): void {
  let leaf = first;
  for (let i = 0; i < SLOTS_PER_TABLE; i += 4) {
    const to = at + i;
    store(slots, to, leaf + (emptyTable[i] as number));
    store(slots, to + 1, leaf + stride + (emptyTable[i + 1] as number));
    store(slots, to + 2, leaf + 2 * stride + (emptyTable[i + 2] as number));
    store(slots, to + 3, leaf + 3 * stride + (emptyTable[i + 3] as number));
    leaf += 4 * stride;
  }
}

/**
 * Replaces the superpage by `child`, a blank table not linked yet, filled here. 0; a negative errno: the superpage is
 * untouched. For `atomic` and `break-before-make`; the naive way needs the ordinary map path (second-level.ts).
 */
export function splitIoLeaf(h: Host, d: Domain, page: Superpage, child: TableIndex, flush: FlushFlags): number {
  const breaks = splitStrategy(h) === 'break-before-make';
  const first = page.level === 1 ? page.leaf - SLOT_SP : page.leaf;
  storeLeaves(h.tables.slots, child * SLOTS_PER_TABLE, first, 512 ** (page.level - 1) * 65536);
  if (breaks) breakLeaf(h, d, page);
  const rc = linkTable(h, page.index, child);
  if (rc !== 0) {
    if (breaks) store(h.tables.slots, page.index, page.leaf);
    return rc;
  }
  shattered(h, flush);
  return 0;
}

export function shattered(h: Host, flush: FlushFlags): void {
  flush.bits |= FLUSHF_modified;
  h.counters.add(C_SHATTERS);
}

/** From here until the table is linked and filled, devices find nothing in the whole superpage. */
export function breakLeaf(h: Host, d: Domain, page: Superpage): void {
  const pages = 512 ** page.level;
  step(stepKind.ioWrite, page.index);
  store(h.tables.slots, page.index, 0);
  vtdIotlbFlush(h, d, page.dfn - (page.dfn % pages), pages, FLUSHF_modified | FLUSHF_all);
}
