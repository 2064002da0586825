// The ids by which a VT-d unit tells domains apart. Most units have 2^16 of them and an id is the domain's number (its
// complement on a unit that caches what is absent, which tags that with 0). A unit with few hands them out from a map, and
// may have none left. Ids are taken and dropped under the pcidevs lock; flushes look them up without any.
import type { IommuUnitConfig } from '../../host-config.ts';
import { errno } from '../../hypercall/errno.ts';
import type { Unit } from '../iommu-state.ts';

const DID_MASK = 0xffff;
/** Domain ids from here on are the private ones of quarantined devices. */
export const FIRST_QUARANTINE_DID = 0x8000;
/** Fewer than this many ids and no domain number can be one. */
const DIRECT_IDS = 0x7fff * 2;

/** Entries of a unit's map; 0: it needs none. */
export function mapEntries({ domainIds, cachingMode }: IommuUnitConfig): number {
  if (domainIds === undefined || domainIds > DIRECT_IDS + (cachingMode ? 1 : 0)) return 0;
  return domainIds;
}

/** Id 0 tags what is absent on a unit that caches it. */
const firstFree = (unit: Unit): number => (unit.config.cachingMode ? 1 : 0);

/** The id a unit knows a domain (or a quarantine's pseudo domain) by; -1: none, nothing of it is cached there. */
export function didOf(unit: Unit, domid: number): number {
  if (unit.didOwners.length === 0) return unit.config.cachingMode ? ~domid & DID_MASK : domid & DID_MASK;
  return unit.didOwners.indexOf(domid + 1);
}

/** The domid (or pseudo domid) behind a unit's id; -1: nobody's. */
export function domidOfDid(unit: Unit, did: number): number {
  if (unit.didOwners.length === 0) return unit.config.cachingMode ? ~did & DID_MASK : did;
  return (unit.didOwners[did] ?? 0) - 1;
}

/** The id of `domid`, a free one if it has none yet. -EBUSY: no id is free. */
export function takeDid(unit: Unit, domid: number): number {
  const known = didOf(unit, domid);
  if (known >= 0) return known;
  const free = unit.didOwners.indexOf(0, firstFree(unit));
  if (free < 0) return -errno.EBUSY;
  Atomics.store(unit.didOwners, free, domid + 1);
  return free;
}

/**
 * Nothing of `domid` is behind the unit any more, and everything cached under its id has been invalidated. Owner and "in
 * use" are one word here, so that nobody finds an id free that still names its last user (XSA-399).
 */
export function dropDid(unit: Unit, domid: number): void {
  if (unit.didOwners.length === 0) return;
  const did = didOf(unit, domid);
  if (did >= 0) Atomics.store(unit.didOwners, did, 0);
}
