// Starts of tests about grants: guests that have shown themselves the first frame of their grant table, entries in it, a PV guest
// that maps (an HVM one has no device part of a mapping).
import { type Setup, UnexpectedAnswer } from '#explore/world';
import { gtf } from '#model/grant/shared-entry';
import { physmapSpace } from '#model/hypercall/calls';

/** Where a guest has the first frame of its table. */
export const TABLE = 600;
/** References below are the toolstack's. */
export const REF = 8;
/** Of a frame number in XENMAPSPACE_grant_table: a status frame is meant. */
export const STATUS_FRAMES = 2 ** 31;

/** A guest with a page of RAM at gfn 512 and a grant table of that version. */
export function granter(s: Setup, version = 1): number {
  const domid = s.guest({ ram: [{ gfn: 512, pages: 1 }] });
  if (version === 2) s.expect(s.call(domid, { op: 'gnttab_set_version', version }).rc, 0, 'gnttab_set_version');
  showTable(s, domid);
  return domid;
}

/** The first frame of the guest's grant table at its gfn TABLE. */
export function showTable(s: Setup, domid: number): void {
  const space = physmapSpace.grantTable;
  const { rc } = s.call(domid, { op: 'add_to_physmap', domid, space, idx: 0, gpfn: TABLE, size: 0 });
  s.expect(rc, 0, 'showing the grant table');
}

/** An entry of `from` lets `to` use its page `gfn`; `over`: instead of a page, that entry of another domain (version 2). */
export function grant(
  s: Setup,
  from: number,
  to: number,
  gfn: number,
  over?: { readonly domid: number; readonly ref: number },
): void {
  const version = s.call(from, { op: 'gnttab_get_version', domid: from }).version ?? 1;
  const { rc } = s.call(from, {
    op: 'grant_entry_set',
    gfn: TABLE,
    index: REF,
    version,
    flags: over ? gtf.transitive : gtf.permitAccess,
    domid: to,
    frame: gfn,
    start: 0,
    length: 0,
    transDomid: over?.domid ?? 0,
    transRef: over?.ref ?? 0,
  });
  s.expect(rc, 0, 'grant_entry_set');
}

/** A PV guest without memory, unpaused. */
export function pvGuest(s: Setup): number {
  const flags = { hvm: false, hap: false, iommu: false, noSharept: false, deviceModel: false };
  const { domid } = s.call(0, { op: 'createdomain', domid: 0, name: 'pv', vcpus: 2, ...flags });
  if (domid === undefined) throw new UnexpectedAnswer('a PV guest cannot be created');
  s.expect(s.call(0, { op: 'unpausedomain', domid }).rc, 0, 'unpausedomain');
  return domid;
}

/** `by` maps the entry of `from`, for its CPUs, its devices or both (gntmap): the handle, and the machine address of the page. */
export function map(s: Setup, by: number, from: number, flags: number): { handle: number; address: number } {
  const ops = [{ hostAddr: 0x1000, flags, ref: REF, domid: from }];
  const [result] = s.call(by, { op: 'gnttab_map_grant_ref', ops }).results ?? [];
  if (result?.status !== 0) throw new UnexpectedAnswer(`mapping a grant of d${from} answered ${result?.status}`);
  return { handle: result.handle, address: result.devBusAddr };
}
