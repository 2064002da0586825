// What can be said of one p2m leaf alone: its rights, its place, and whether a write through it would go unseen. The survey calls
// this for every leaf; what needs sums over leaves is in memory-invariants.ts.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { isDirty } from '../p2m/dirty-bitmap.ts';
import {
  levelOrder,
  SLOT_MISCONFIG,
  SLOT_RECALC,
  SLOT_RIGHTS,
  SLOT_W,
  slotAccess,
  slotFrame,
  slotLow,
  slotType,
} from '../p2m/entry.ts';
import { isMmioRo, mixesMemoryTypes } from '../p2m/memory-type.ts';
import { cpuRights, isPaging, isReadOnly, isValid, p2mType, p2mTypeName } from '../p2m/types.ts';
import type { Findings } from './findings.ts';

const hex = (n: number): string => n.toString(16);

/** `above`: low bits of the entries that lead to the leaf. A big host has millions of leaves: words are made only for findings. */
export function judgeLeaf(
  h: Host,
  findings: Findings,
  d: Domain,
  gfn: number,
  slot: number,
  level: number,
  above: number,
): void {
  const low = slotLow(slot);
  const type = slotType(low);
  const last = gfn + 512 ** level - 1;
  const found = (name: string, what: string): void => add(findings, name, d, gfn, type, level, what);
  if (last > d.r.maxMappedPfn) found('noLeafAboveMaxMappedPfn', `ends above ${hex(d.r.maxMappedPfn)}`);
  const rights = low & SLOT_RIGHTS;
  const due = rightsDue(h, slot, low, type);
  if (rights !== due || ((rights & SLOT_W) !== 0 && isReadOnly(type))) {
    found('leafRightsFollowType', `has rights ${rights}, its type and access give ${due}`);
  }
  if (isValid(type) && !isPaging(type) && slotFrame(slot) === INVALID_MFN) {
    found('validLeafNamesAFrame', 'names no frame');
  }
  if (level > 0 && (low & SLOT_MISCONFIG) === 0) {
    if (mixesMemoryTypes(h, d, slotFrame(slot), levelOrder(level), type)) {
      found('leafHasOneMemoryType', 'covers frames of different memory types');
    }
  }
  if (type === p2mType.ramRw && d.r.logDirty !== 0 && ((low | above) & SLOT_RECALC) === 0) {
    const g = unseen(h, d, gfn, last);
    if (g >= 0) found('noWriteUnseenByLogDirty', `is writable, and ${hex(g)} is not marked dirty`);
  }
}

function add(
  findings: Findings,
  name: string,
  d: Domain,
  gfn: number,
  type: number,
  level: number,
  what: string,
): void {
  const where = `d${d.domid} gfn ${hex(gfn)} (${p2mTypeName(type)}, order ${levelOrder(level)})`;
  findings.add(name, `${where} ${what}`, { domid: d.domid, gfn, type, level });
}

function rightsDue(h: Host, slot: number, low: number, type: number): number {
  const rights = cpuRights(type, slotAccess(low));
  return type === p2mType.mmioDirect && isMmioRo(h, slotFrame(slot)) ? rights & ~SLOT_W : rights;
}

/** A page that can be written without a fault is one whose write is on record already. The first that is not, or -1. */
function unseen(h: Host, d: Domain, first: number, last: number): number {
  if (d.r.dirtyFailedAllocs > 0 || d.dying) return -1;
  for (let g = first; g <= last; g++) if (!isDirty(h, d, g)) return g;
  return -1;
}
