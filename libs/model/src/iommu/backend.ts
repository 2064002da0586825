// What a vendor's IOMMU must give to the generic layer. VT-d is the one implementation today; the generic code above names
// no vendor. Which lock a function takes is part of its contract: map, unmap and lookup take the domain's mapping lock,
// context changes are made under the pcidevs lock.
import type { Domain } from '../domain/domain.ts';
import type { Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import type { TableIndex } from '../shared-memory/table-pages.ts';
import type { FlushFlags } from './flags.ts';
import { vtdContextClear, vtdContextSet, vtdContextSetPrivate, vtdReleaseId } from './vtd/context.ts';
import { vtdFaultLines, vtdFaultText } from './vtd/fault-text.ts';
import { vtdIotlbFlush } from './vtd/invalidation.ts';
import { ensureRoot, type IoLeaf, vtdLookup, vtdMapPage, vtdUnmapPage } from './vtd/second-level.ts';

export interface IommuBackend {
  readonly name: string;
  /** Bit per order that a leaf can have (bit 0 always). */
  pageSizes(h: Host): number;
  /** Tables of a new domain; 0 or -ENOMEM. */
  domainInit(h: Host, d: Domain): number;
  mapPage(h: Host, d: Domain, dfn: number, m: number, order: number, flags: number, flush: FlushFlags): number;
  unmapPage(h: Host, d: Domain, dfn: number, order: number, flush: FlushFlags): number;
  lookup(h: Host, d: Domain, dfn: number, out: IoLeaf): boolean;
  /** Complete on return. */
  flush(h: Host, d: Domain, dfn: number, pages: number, flags: number): number;
  /** Of one function of the device: `fn` is its own requester or a phantom's. */
  contextSet(h: Host, d: Domain, device: number, fn: number): number;
  contextSetPrivate(h: Host, device: number, fn: number, root: TableIndex, pseudoDomid: number): number;
  contextClear(h: Host, device: number, fn: number): number;
  /** Functions of the device left the tables of that domain (or pseudo domain). */
  releaseId(h: Host, device: number, domid: number): void;
  faultText(reason: number): string;
  faultLines(unit: number, device: Sbdf, dfn: number, write: boolean, reason: number): readonly string[];
}

export const vtd: IommuBackend = {
  name: 'VT-d',
  pageSizes: (h) => 1 | (h.iommu.superpage2m ? 1 << 9 : 0) | (h.iommu.superpage1g ? 1 << 18 : 0),
  domainInit(h, d) {
    d.locks.iommuMapping.lock();
    const root = ensureRoot(h, d);
    d.locks.iommuMapping.unlock();
    return root === 0 ? -errno.ENOMEM : 0;
  },
  mapPage: vtdMapPage,
  unmapPage: vtdUnmapPage,
  lookup: vtdLookup,
  flush: vtdIotlbFlush,
  contextSet: vtdContextSet,
  contextSetPrivate: vtdContextSetPrivate,
  contextClear: vtdContextClear,
  releaseId: vtdReleaseId,
  faultText: vtdFaultText,
  faultLines: vtdFaultLines,
};

/** The backend of this host's IOMMUs. */
export const backendOf = (_h: Host): IommuBackend => vtd;
