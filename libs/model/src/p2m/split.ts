// Splitting a superpage or PoD leaf. The right way (Xen on x86): the 512 children are built in a private table, which one
// store then links; no instant shows a neighbour unmapped. The other two ways exist to show what they break when a device
// walks the same tables (policy `shatter`, shared tables only: a CPU would just fault and retry).
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { FLUSHF_all, FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { counter } from '../shared-memory/counters.ts';
import { publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { levelOrder, makeMiddle, splitChild, tableOffset } from './entry.ts';
import { p2mTlbFlushSync, syncDomain } from './p2m.ts';
import { p2mAllocTable, p2mFreeTable } from './paging-pool.ts';

const C_SPLIT = counter('p2m.split');

/**
 * Replaces the leaf at `index` (of `level`) by a table whose path down to `target` around `g` is split. Nothing changes on
 * -ENOMEM. Caller holds the p2m write lock.
 */
export function splitLeaf(
  h: Host,
  d: Domain,
  index: number,
  leaf: number,
  level: number,
  target: number,
  g: number,
): number {
  const { shatter } = h.config.policies;
  if (!d.has('hapPtShare') || shatter === 'atomic') {
    const table = buildSplit(h, d, leaf, level, target, g);
    if (table === 0) return -errno.ENOMEM;
    link(h, index, table);
  } else if (shatter === 'break-before-make') {
    // As Xen's Arm p2m still does: entry cleared and flushed, then the finished table linked.
    const table = buildSplit(h, d, leaf, level, target, g);
    if (table === 0) return -errno.ENOMEM;
    breakEntry(h, d, index, level, g);
    link(h, index, table);
  } else {
    const rc = splitNaively(h, d, index, leaf, level, target, g);
    if (rc !== 0) return rc;
  }
  h.counters.add(C_SPLIT);
  return 0;
}

function link(h: Host, index: number, table: TableIndex): void {
  step(stepKind.ptWrite, index);
  publish();
  store(h.tables.slots, index, makeMiddle(table));
}

/** The private copy: 512 children of `leaf`, the one around `g` split further while its level is above `target`. */
function buildSplit(h: Host, d: Domain, leaf: number, level: number, target: number, g: number): TableIndex | 0 {
  const table = p2mAllocTable(h, d);
  if (table === 0) return 0;
  for (let i = 0; i < SLOTS_PER_TABLE; i++) h.tables.write(table, i, splitChild(leaf, level, i));
  if (level - 1 > target) {
    const i = tableOffset(g, level - 1);
    const below = buildSplit(h, d, h.tables.read(table, i), level - 1, target, g);
    if (below === 0) {
      p2mFreeTable(h, d, table);
      return 0;
    }
    h.tables.write(table, i, makeMiddle(below));
  }
  return table;
}

/** The whole superpage vanishes for CPUs and devices. */
function breakEntry(h: Host, d: Domain, index: number, level: number, g: number): void {
  step(stepKind.ptWrite, index);
  store(h.tables.slots, index, 0);
  syncDomain(h, d);
  p2mTlbFlushSync(h, d);
  const pages = 2 ** levelOrder(level);
  iommuIotlbFlush(h, d, g - (g % pages), pages, FLUSHF_modified | FLUSHF_all);
}

/** Unmap the superpage, then map the 512 small pages one by one into a table that is already linked. */
function splitNaively(
  h: Host,
  d: Domain,
  index: number,
  leaf: number,
  level: number,
  target: number,
  g: number,
): number {
  const table = p2mAllocTable(h, d);
  if (table === 0) return -errno.ENOMEM;
  const deeper =
    level - 1 > target ? buildSplit(h, d, splitChild(leaf, level, tableOffset(g, level - 1)), level - 1, target, g) : 0;
  if (level - 1 > target && deeper === 0) {
    p2mFreeTable(h, d, table);
    return -errno.ENOMEM;
  }
  breakEntry(h, d, index, level, g);
  link(h, index, table);
  for (let i = 0; i < SLOTS_PER_TABLE; i++) {
    step(stepKind.ptWrite, table * SLOTS_PER_TABLE + i);
    const child = deeper !== 0 && i === tableOffset(g, level - 1) ? makeMiddle(deeper) : splitChild(leaf, level, i);
    h.tables.write(table, i, child);
  }
  return 0;
}
