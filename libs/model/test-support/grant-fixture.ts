// Domains that grant each other memory, driven through the dispatcher: a table set up as a guest's kernel does, entries written
// through the p2m, mappings over ballooned gfns.
import type { Domain } from '#model/domain/domain';
import { gtf } from '#model/grant/shared-entry';
import { gntmap } from '#model/grant/status';
import type { HostConfig } from '#model/host-config';
import { physmapSpace } from '#model/hypercall/calls';
import { bootTestbed, hypercall, makeGuest, type Testbed } from './hypercall-fixture.ts';

export const RAM = 64;
/** Where a guest has the first frame of its table, and of its status frames. */
export const TABLE_GFN = 0x8000;
export const STATUS_GFN = 0x9000;
/** References below are the toolstack's. */
export const FIRST_REF = 8;

export interface Granting {
  readonly bed: Testbed;
  readonly front: Domain;
  readonly back: Domain;
}

/** RAM at 0…63, its contents the gfn + 1; the table's first frame shown. */
export function furnish(bed: Testbed, d: Domain): void {
  const extents = { start: 0, count: RAM };
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents });
  for (let g = 0; g < RAM; g++) hypercall(bed, d, { op: 'store', frames: { start: g, count: 1 }, tag: g + 1 });
  showTable(bed, d);
}

export const showTable = (bed: Testbed, d: Domain, idx = 0, gpfn = TABLE_GFN): number =>
  hypercall(bed, d, { op: 'add_to_physmap', domid: d.domid, space: physmapSpace.grantTable, idx, gpfn, size: 0 }).rc;

export function bootGranting(overrides: Partial<HostConfig> = {}): Granting {
  const bed = bootTestbed({ grantFrames: 4, maptrackFrames: 1, ...overrides });
  const front = makeGuest(bed);
  const back = makeGuest(bed, { iommu: true });
  for (const d of [front, back]) furnish(bed, d);
  return { bed, front, back };
}

export interface EntrySpec {
  readonly ref: number;
  readonly to: Domain;
  readonly gfn: number;
  readonly flags?: number;
  readonly version?: number;
  readonly start?: number;
  readonly length?: number;
  readonly transDomid?: number;
  readonly transRef?: number;
}

export const writeEntry = (bed: Testbed, d: Domain, spec: EntrySpec): number =>
  hypercall(bed, d, {
    op: 'grant_entry_set',
    gfn: TABLE_GFN,
    index: spec.ref,
    version: spec.version ?? 1,
    flags: spec.flags ?? gtf.permitAccess,
    domid: spec.to.domid,
    frame: spec.gfn,
    start: spec.start ?? 0,
    length: spec.length ?? 0,
    transDomid: spec.transDomid ?? 0,
    transRef: spec.transRef ?? 0,
  }).rc;

export const endEntry = (bed: Testbed, d: Domain, ref: number, version = 1): number =>
  hypercall(bed, d, { op: 'grant_entry_end', gfn: TABLE_GFN, index: ref, version }).rc;

/** At a gfn of the mapper that is a hole. */
export function mapRef(bed: Testbed, d: Domain, from: Domain, ref: number, gfn: number, flags: number = gntmap.host) {
  const ops = [{ hostAddr: gfn * 4096, flags, ref, domid: from.domid }];
  const { rc, results } = hypercall(bed, d, { op: 'gnttab_map_grant_ref', ops });
  const result = results?.[0];
  if (rc !== 0 || !result) throw new Error(`map: ${rc}`);
  return result;
}

export function unmapRef(bed: Testbed, d: Domain, handle: number, gfn: number): number | undefined {
  const ops = [{ hostAddr: gfn * 4096, devBusAddr: 0, handle }];
  return hypercall(bed, d, { op: 'gnttab_unmap_grant_ref', ops }).statuses?.[0];
}

export const tagsOf = (bed: Testbed, d: Domain, start: number, count = 1) =>
  hypercall(bed, d, { op: 'load', frames: { start, count } }).tags;
export const storeTag = (bed: Testbed, d: Domain, gfn: number, tag: number) =>
  hypercall(bed, d, { op: 'store', frames: { start: gfn, count: 1 }, tag });
