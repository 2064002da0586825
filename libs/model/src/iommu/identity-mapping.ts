// Identity maps of reserved device memory in a domain: a list of {first, last, access, count}, one count per device that
// needs the region (as Xen's iommu_identity_mapping). The node is made before the pages are mapped, so that a failure half
// way leaves something a later unmap can find (XSA-460). Caller holds the pcidevs lock.
import type { Domain } from '../domain/domain.ts';
import { MAX_IDENTITY_MAPS } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { identityPages, p2mAddIdentityEntry, p2mRemoveIdentityEntry } from '../p2m/identity.ts';
import { p2mAccess } from '../p2m/types.ts';

/** As `access`: take the map away (Xen uses this value, which no map can have). */
export const UNMAP_IDENTITY = p2mAccess.x;

const FIELDS = 5;
const FIRST = 0;
const LAST = 1;
const ACCESS = 2;
const COUNT = 3;
const IDENTICAL = 4;

export interface IdentityMap {
  readonly first: number;
  readonly last: number;
  readonly access: number;
  /** Devices it is there for. */
  readonly count: number;
  /** Pages that were 1:1 when it was made: fewer than all where a relaxed policy let something else stay. */
  readonly identical: number;
}

/** The maps of a domain, for reports and invariants. */
export function identityMaps(d: Domain): IdentityMap[] {
  const cells = d.r.identityMaps;
  return Array.from({ length: d.r.identityMapCount }, (_, i) => ({
    first: cells[i * FIELDS + FIRST] as number,
    last: cells[i * FIELDS + LAST] as number,
    access: cells[i * FIELDS + ACCESS] as number,
    count: cells[i * FIELDS + COUNT] as number,
    identical: cells[i * FIELDS + IDENTICAL] as number,
  }));
}

function removeNode(d: Domain, node: number): void {
  const cells = d.r.identityMaps;
  cells.copyWithin(node * FIELDS, (node + 1) * FIELDS, d.r.identityMapCount * FIELDS);
  d.r.identityMapCount--;
}

/**
 * Maps [first, last] 1:1 with `access`, or with UNMAP_IDENTITY takes one user of that very range away. 0; -EADDRINUSE: overlaps
 * another range, or the same with another access; -ENOENT: unmap of an unknown range; -ENXIO: a page could not be cleared;
 * -ENOMEM; -EBUSY: a page is in use and `flag` lacks DEV_RDM_RELAXED.
 */
export function iommuIdentityMapping(
  h: Host,
  d: Domain,
  access: number,
  first: number,
  last: number,
  flag: number,
): number {
  h.assert(h.pcidevsLock.held, 'pcidevs lock held in iommuIdentityMapping');
  const cells = d.r.identityMaps;
  for (const [node, map] of identityMaps(d).entries()) {
    if (map.first === first && map.last === last) {
      if (access !== UNMAP_IDENTITY) {
        if (map.access !== access) return -errno.EADDRINUSE;
        cells[node * FIELDS + COUNT] = map.count + 1;
        return 0;
      }
      cells[node * FIELDS + COUNT] = map.count - 1;
      if (map.count > 1) return 0;
      let rc = 0;
      for (let g = first; g <= last; g++) if (p2mRemoveIdentityEntry(h, d, g) !== 0) rc = -errno.ENXIO;
      removeNode(d, node);
      return rc;
    }
    if (map.first <= last && first <= map.last) return -errno.EADDRINUSE;
  }
  if (access === UNMAP_IDENTITY) return -errno.ENOENT;
  return insert(h, d, access, first, last, flag);
}

function insert(h: Host, d: Domain, access: number, first: number, last: number, flag: number): number {
  const node = d.r.identityMapCount;
  if (node === MAX_IDENTITY_MAPS) return -errno.ENOMEM;
  d.r.identityMaps.set([first, last, access, 1, 0], node * FIELDS);
  d.r.identityMapCount = node + 1;
  for (let g = first; g <= last; g++) {
    const rc = p2mAddIdentityEntry(h, d, g, access, flag);
    if (rc === 0) continue;
    // Nothing is mapped yet: no node. Later: it stays, for the caller's unmap to clear what was done.
    if (g === first) removeNode(d, node);
    return rc;
  }
  d.r.identityMaps[node * FIELDS + IDENTICAL] = identityPages(h, d, first, last);
  return 0;
}
