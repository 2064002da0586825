// State invariants of reserved device memory in guests: what was mapped 1:1 for a device stays so, and one guest alone has it.
// How often a region is counted is device-invariants.ts's.
import type { Domain } from '../domain/domain.ts';
import { mayAccessIomem } from '../domain/iomem.ts';
import type { Host } from '../host.ts';
import { identityMaps } from '../iommu/identity-mapping.ts';
import { iommuLookupPage } from '../iommu/iommu.ts';
import { identityPages } from '../p2m/identity.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);

const guestsOf = (h: Host): Domain[] => h.allDomains().filter((d) => !d.isHardware && !d.dying && !d.crashed);

/** Whatever calls the guest or its device model make. Pages that a relaxed policy left as they were are not in it. */
export function identityEntryChangesOnlyThroughItsOwner({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  for (const d of guestsOf(h)) {
    for (const { first, last, identical } of identityMaps(d)) {
      const now = identityPages(h, d, first, last);
      if (now >= identical) continue;
      found.push({
        text:
          `d${d.domid} has a device with the reserved region ${hex(first)}-${hex(last)}: ` +
          `of ${identical} pages mapped 1:1 for it ${now} still are`,
        evidence: { domid: d.domid, first, last, identical, now },
      });
    }
  }
  return found;
}

/**
 * A guest has reserved pages 1:1 only where it is known for which device, so that they go when it goes; unless it may map them as I/O
 * memory of its own.
 */
export function reservedPagesMappedExactlyWhileOwned({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  for (const d of guestsOf(h)) {
    const known = identityMaps(d);
    for (const { startPfn, endPfn } of h.config.rmrrs) {
      if (known.some(({ first, last }) => first <= startPfn && endPfn <= last)) continue;
      if (mayAccessIomem(d, startPfn, endPfn)) continue;
      const pages = identityPages(h, d, startPfn, endPfn);
      if (pages === 0) continue;
      found.push({
        text: `d${d.domid} has ${pages} pages of the reserved region ${hex(startPfn)}-${hex(endPfn)} mapped 1:1, for no device`,
        evidence: { domid: d.domid, first: startPfn, last: endPfn, pages },
      });
    }
  }
  return found;
}

/** A reserved region that two guests can write carries data from one to the other. */
export function noFrameWritableByTwoGuests({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  const seen: { readonly d: Domain; readonly first: number; readonly last: number }[] = [];
  for (const d of guestsOf(h)) {
    for (const { first, last } of identityMaps(d)) {
      for (const other of seen) {
        if (other.d === d) continue;
        const frames = commonFrames(h, d, other.d, Math.max(first, other.first), Math.min(last, other.last));
        if (frames === 0) continue;
        const where = Math.max(first, other.first);
        found.push({
          text: `${frames} frames of the reserved region at ${hex(where)} are writable by d${other.d.domid} and by d${d.domid}`,
          evidence: { frame: where, frames, domid: other.d.domid, otherDomid: d.domid },
        });
      }
      seen.push({ d, first, last });
    }
  }
  return found;
}

function commonFrames(h: Host, a: Domain, b: Domain, first: number, last: number): number {
  let frames = 0;
  for (let pfn = first; pfn <= last; pfn++) if (reaches(h, a, pfn) && reaches(h, b, pfn)) frames++;
  return frames;
}

/** By its CPUs, or by its devices alone. */
const reaches = (h: Host, d: Domain, pfn: number): boolean =>
  identityPages(h, d, pfn, pfn) === 1 || iommuLookupPage(h, d, pfn).mfn === pfn;
