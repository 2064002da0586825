// Table pages of the IOMMU: taken from the heap, linked into a domain's second-level tree, and given back. A table that was
// linked is never freed at once: a walk may be inside it. It is queued on the CPU that unlinked it and freed when that CPU
// is between calls, by when the caller has flushed (as Xen's iommu_queue_free_pgtable and its tasklet).
import { allocAnonymous, freeAnonymous } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { SLOT_SP, slotFrame } from '../p2m/entry.ts';
import { counter } from '../shared-memory/counters.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import { emptyTable } from './contiguity.ts';
import { deferredFlush } from './vtd/invalidation.ts';

const C_ALLOC = counter('iommu.ptAlloc');
const C_FREE = counter('iommu.ptFree');

/**
 * An empty table (all null, markers say so), or 0: no memory. `slot` of the domain, or maxDomains for quarantine. `blank`: the
 * caller fills all of it at once, so the markers are left to it.
 */
export function allocIoTable(h: Host, slot: number, blank = false): TableIndex | 0 {
  const m = allocAnonymous(h);
  if (m < 0) return 0;
  const table = h.tables.alloc(tableUse.iommu, slot, m);
  if (table === 0) {
    freeAnonymous(h, m as Mfn);
    return 0;
  }
  if (!blank) h.tables.slots.set(emptyTable, table * SLOTS_PER_TABLE);
  h.counters.add(C_ALLOC);
  return table;
}

/** Only for a table that no device can reach: never linked, or of a domain without devices. */
export function freeIoTable(h: Host, table: TableIndex): void {
  const m = h.tables.free(table);
  freeAnonymous(h, m as Mfn);
  h.counters.add(C_FREE);
}

export function queueFree(h: Host, table: TableIndex): void {
  h.tables.markQueued(table);
  const { queueHeads, queueNext } = h.iommu;
  queueNext[table] = queueHeads[h.cpu] as number;
  queueHeads[h.cpu] = table;
}

/** Queues a table whose entries are of `level`, and every table below. Answers how many. */
export function queueSubtree(h: Host, table: TableIndex, level: number): number {
  let queued = 1;
  if (level > 0) {
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = h.tables.read(table, i);
      if ((slot & 3) !== 0 && (slot & SLOT_SP) === 0)
        queued += queueSubtree(h, slotFrame(slot) as TableIndex, level - 1);
    }
  }
  queueFree(h, table);
  return queued;
}

/** Xen's tasklet: frees what this CPU queued. Called by a pCPU between two calls, no lock held. */
export function runQueuedFrees(h: Host): void {
  const { queueHeads, queueNext } = h.iommu;
  let table = queueHeads[h.cpu] as number;
  if (h.config.policies.iotlbFlush === 'deferred') deferredFlush(h, table !== 0);
  if (table === 0) return;
  queueHeads[h.cpu] = 0;
  while (table !== 0) {
    const next = queueNext[table] as number;
    freeIoTable(h, table as TableIndex);
    table = next;
  }
}
