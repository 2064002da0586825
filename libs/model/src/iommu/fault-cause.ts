// Why a DMA faulted: what the p2m and the I/O tables held for the page, read without any lock (a look, stale at once), and
// who would have had to act for the page to be there. It decides nothing.
import { INVALID_MFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { Leaf as P2mLeaf, peekEntry } from '../p2m/peek-entry.ts';
import { isRam, type P2mTypeName, p2mType, p2mTypeName } from '../p2m/types.ts';
import { IOMMUF_writable } from './flags.ts';
import { IoLeaf, peekLeaf } from './vtd/second-level.ts';

export interface FaultCause {
  /** Owner of the device; -1: unknown to Xen or quarantined. */
  readonly domid: number;
  readonly dfn: number;
  readonly p2mType: P2mTypeName | 'none';
  /** Frame that the p2m names, -1 if none. */
  readonly mfn: number;
  /** The p2m entry covers 2^order pages. */
  readonly order: number;
  readonly iommuEntry: 'absent' | 'ro' | 'mapped';
  readonly sharedTables: boolean;
  /** The p2m holds RAM of the domain there: a device driver had every reason to use the page. */
  readonly isRam: boolean;
  /** One sentence. */
  readonly why: string;
}

function explain(type: number, entry: FaultCause['iommuEntry'], shared: boolean, domid: number): string {
  if (type === p2mType.populateOnDemand) {
    return (
      `populate-on-demand: no CPU of d${domid} has touched the page, so no frame is behind it; a CPU's access would have ` +
      'populated it, a device cannot'
    );
  }
  if (type === p2mType.mmioDm || type === p2mType.invalid) {
    return `nothing is mapped there in d${domid}: never populated, or given up (ballooned out, removed)`;
  }
  if (isRam(type) && entry === 'absent') {
    return `d${domid} has RAM there and the I/O tables had nothing at that moment: the entry was being rebuilt, or is not mirrored`;
  }
  if (entry === 'ro') return `the page is mapped read-only for devices of d${domid}`;
  if (entry === 'mapped') return 'the page is mapped now: the entry was away for a moment, or an absence was cached';
  return `${p2mTypeName(type)} pages are not mapped for devices${shared ? ' (tables shared with EPT)' : ''}`;
}

/** Looks at the tables of the device's owner. `device`: index in the host's description. */
export function classifyFault(h: Host, device: number, dfn: number): FaultCause {
  const owner = h.iommu.ownerOf(device);
  const d = owner < 0 ? null : h.domain(owner);
  if (!d) {
    const why = owner < 0 ? 'Xen does not know the device' : 'the device is quarantined: it belongs to no domain';
    return {
      domid: -1,
      dfn,
      p2mType: 'none',
      mfn: -1,
      order: 0,
      iommuEntry: 'absent',
      sharedTables: false,
      isRam: false,
      why,
    };
  }
  const shared = d.has('hapPtShare');
  const found = new P2mLeaf();
  if (d.isTranslated) peekEntry(h, d, dfn, found);
  const leaf = new IoLeaf();
  const mapped = peekLeaf(h, shared ? d.r.p2mRoot : d.r.iommuRoot, dfn, leaf);
  const iommuEntry = !mapped ? 'absent' : (leaf.flags & IOMMUF_writable) === 0 ? 'ro' : 'mapped';
  return {
    domid: d.domid,
    dfn,
    p2mType: p2mTypeName(found.type),
    mfn: found.mfn === INVALID_MFN ? -1 : found.mfn,
    order: found.order,
    iommuEntry,
    sharedTables: shared,
    isRam: isRam(found.type),
    why: explain(found.type, iommuEntry, shared, d.domid),
  };
}
