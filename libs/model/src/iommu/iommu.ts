// The generic IOMMU interface: map and unmap ranges in the largest chunks, flush, look up, give a domain tables and take
// them away (as Xen's drivers/passthrough/iommu.c). For a domain without IOMMU every map and unmap is a success without
// effect; with tables shared with EPT too, since the EPT code does both the change and the flush.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { domainFeature } from '../domain/domain-record.ts';
import { INVALID_DFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { SLOT_SP, slotFrame } from '../p2m/entry.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { backendOf } from './backend.ts';
import { FLUSHF_all, FLUSHF_modified, FlushFlags, IOMMUF_preempt } from './flags.ts';
import { sharing } from './sharing.ts';
import { freeIoTable } from './table-pages.ts';
import { isTable } from './vtd/entry.ts';
import { IoLeaf } from './vtd/second-level.ts';

export { runQueuedFrees } from './table-pages.ts';

const PREEMPT_CHUNKS = 4096;
const hex = (n: number): string => n.toString(16).padStart(5, '0');

/** Map and unmap have something to do: the domain has an IOMMU and tables of its own. */
const hasOwnTables = (d: Domain): boolean => d.has('iommu') && !d.has('hapPtShare');

/** Order of the largest chunk that alignment, rest and page sizes allow. */
function chunkOrder(sizes: number, aligned: number, todo: number): number {
  for (const order of [18, 9]) {
    if ((sizes & (1 << order)) !== 0 && todo >= 2 ** order && aligned % 2 ** order === 0) return order;
  }
  return 0;
}

function crashUnlessHardware(h: Host, d: Domain, what: string): void {
  if (!d.isHardware) domainCrash(h, d, `domain_crash called from iommu.c: ${what}`);
}

/**
 * Maps `pages` from dfn to mfn. 0; with IOMMUF_preempt and `preempt` the number of pages done so far; or an error, after
 * which what had been mapped is unmapped again and a domain other than dom0 is crashed. The caller flushes by `flush`.
 */
export function iommuMap(
  h: Host,
  d: Domain,
  dfn: number,
  m: number,
  pages: number,
  flags: number,
  flush: FlushFlags,
  preempt: () => boolean = () => false,
): number {
  if (!hasOwnTables(d)) return 0;
  const backend = backendOf(h);
  const sizes = backend.pageSizes(h);
  let chunks = 0;
  for (let done = 0; done < pages; ) {
    if ((flags & IOMMUF_preempt) !== 0 && chunks++ % PREEMPT_CHUNKS === PREEMPT_CHUNKS - 1 && preempt()) return done;
    const at = dfn + done;
    const order = Math.min(chunkOrder(sizes, at, pages - done), chunkOrder(sizes, m + done, pages - done));
    const rc = backend.mapPage(h, d, at, m + done, order, flags, flush);
    if (rc === 0) {
      done += 2 ** order;
      continue;
    }
    if (!d.crashed) {
      h.platform.printk(`d${d.domid}: IOMMU mapping dfn ${hex(at)} to mfn ${hex(m + done)} failed: ${rc}`);
    }
    iommuUnmap(h, d, dfn, done, flush);
    crashUnlessHardware(h, d, `d${d.domid} IOMMU mapping failed`);
    if (pages > 1 && iommuIotlbFlushAll(h, d, flush.bits) === 0) flush.bits = 0;
    return rc;
  }
  return 0;
}

/** Unmaps `pages` from dfn. 0, or the first error: dom0 goes on after it, any other domain is crashed and the rest stays. */
export function iommuUnmap(h: Host, d: Domain, dfn: number, pages: number, flush: FlushFlags): number {
  if (!hasOwnTables(d)) return 0;
  const backend = backendOf(h);
  const sizes = backend.pageSizes(h);
  let result = 0;
  for (let done = 0; done < pages; ) {
    const order = chunkOrder(sizes, dfn + done, pages - done);
    const rc = backend.unmapPage(h, d, dfn + done, order, flush);
    done += 2 ** order;
    if (rc === 0) continue;
    if (!d.crashed) h.platform.printk(`d${d.domid}: IOMMU unmapping dfn ${hex(dfn + done - 2 ** order)} failed: ${rc}`);
    if (result === 0) result = rc;
    if (!d.isHardware) {
      crashUnlessHardware(h, d, `d${d.domid} IOMMU unmapping failed`);
      break;
    }
  }
  if (result !== 0 && pages > 1 && iommuIotlbFlushAll(h, d, flush.bits) === 0) flush.bits = 0;
  return result;
}

/** Map, then flush unless this CPU batches its flushes. */
export function iommuLegacyMap(h: Host, d: Domain, dfn: number, m: number, pages: number, flags: number): number {
  const flush = new FlushFlags();
  const rc = iommuMap(h, d, dfn, m, pages, flags & ~IOMMUF_preempt, flush);
  return rc === 0 && !h.iommu.dontFlush ? iommuIotlbFlush(h, d, dfn, pages, flush.bits) : rc;
}

export function iommuLegacyUnmap(h: Host, d: Domain, dfn: number, pages: number): number {
  const flush = new FlushFlags();
  const rc = iommuUnmap(h, d, dfn, pages, flush);
  return rc === 0 && !h.iommu.dontFlush ? iommuIotlbFlush(h, d, dfn, pages, flush.bits) : rc;
}

/** Complete on return (policy iotlb.flush aside). 0, or -EINVAL for INVALID_DFN; an error crashes all but dom0. */
export function iommuIotlbFlush(h: Host, d: Domain, dfn: number, pages: number, flags: number): number {
  if (!d.has('iommu') || pages === 0 || flags === 0) return 0;
  if (dfn === INVALID_DFN) return -errno.EINVAL;
  const rc = backendOf(h).flush(h, d, dfn, pages, flags);
  if (rc !== 0) {
    h.platform.printk(
      `d${d.domid}: IOMMU IOTLB flush failed: ${rc}, dfn ${hex(dfn)}, page count ${pages} flags ${flags.toString(16)}`,
    );
    crashUnlessHardware(h, d, `d${d.domid} IOTLB flush failed`);
  }
  return rc;
}

/** Everything of the domain. */
export const iommuIotlbFlushAll = (h: Host, d: Domain, flags = FLUSHF_modified): number =>
  iommuIotlbFlush(h, d, 0, 1, flags | FLUSHF_all);

export interface IoLookup {
  readonly rc: number;
  readonly mfn: Mfn | -1;
  /** IOMMUF_readable | IOMMUF_writable */
  readonly flags: number;
}

/** The mapping of one dfn: -EOPNOTSUPP where the domain has no tables of its own, -ENOENT where nothing is mapped. */
export function iommuLookupPage(h: Host, d: Domain, dfn: number): IoLookup {
  if (!hasOwnTables(d)) return { rc: -errno.EOPNOTSUPP, mfn: -1, flags: 0 };
  const leaf = new IoLeaf();
  if (!backendOf(h).lookup(h, d, dfn, leaf)) return { rc: -errno.ENOENT, mfn: -1, flags: 0 };
  return { rc: 0, mfn: leaf.mfn as Mfn, flags: leaf.flags };
}

/**
 * Decides how a new domain behind the IOMMU is translated (features hapPtShare, needSync) and gives it tables unless it
 * shares the EPT's. 0 or -ENOMEM.
 */
export function iommuDomainInit(h: Host, d: Domain): number {
  if (!d.has('iommu')) return 0;
  const shares = d.has('hap') && !d.has('noSharept') && sharing(h.config).shared;
  // dom0 is strict here: its tables follow its p2m as any other domain's do.
  d.r.features |= shares ? domainFeature.hapPtShare : domainFeature.needSync;
  return shares ? 0 : backendOf(h).domainInit(h, d);
}

/** Tables freed between two preemption checks. */
const FREE_SLICE = 64;

/**
 * Frees all tables of a dying domain without devices. 0 or -ERESTART (call again). The root pointer goes first, under the
 * mapping lock, so that a late unmap finds none rather than freed tables.
 */
export function iommuFreePgtables(h: Host, d: Domain, preempt: () => boolean): number {
  if (!hasOwnTables(d)) return 0;
  h.assert(d.dying, 'domain is dying in iommuFreePgtables');
  d.locks.iommuMapping.lock();
  if (d.r.iommuRoot !== 0) {
    d.r.iommuDetached = d.r.iommuRoot;
    d.r.iommuRoot = 0;
  }
  d.locks.iommuMapping.unlock();
  const root = d.r.iommuDetached as TableIndex;
  if (root === 0) return 0;
  let freed = 0;
  const pause = (): boolean => ++freed % FREE_SLICE === 0 && preempt();
  if (!freeTree(h, d, root, 3, pause)) return -errno.ERESTART;
  d.r.iommuDetached = 0;
  return 0;
}

/** Bottom up; what is freed is unlinked, so that an interrupted run resumes. False: interrupted. */
function freeTree(h: Host, d: Domain, table: TableIndex, level: number, pause: () => boolean): boolean {
  for (let i = 0; level > 0 && i < SLOTS_PER_TABLE; i++) {
    const slot = h.tables.read(table, i);
    if (!isTable(slot, level) || (slot & SLOT_SP) !== 0) continue;
    if (!freeTree(h, d, slotFrame(slot) as TableIndex, level - 1, pause)) return false;
    h.tables.write(table, i, 0);
    if (pause()) return false;
  }
  freeIoTable(h, table);
  d.r.iommuTables--;
  return true;
}
