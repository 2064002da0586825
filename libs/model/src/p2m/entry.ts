// Codec of one EPT slot: frame * 2^16 + 16 low bits, an integer below 2^53. The IOMMU's second-level slots use the same
// places for R, W, SP and SNP, so that the hardware walk over shared and separate tables is one piece of code.
//
//   bit  0 r   1 w   2 x   3 sp (superpage leaf)   7:4 type   11:8 access   12 recalc   13 type, fifth bit
//   14 snp   15 misconfig
//
// A middle entry has sp = 0 above level 0 and names a table page; a leaf names a host frame (INVALID_MFN for PoD).
// Slot 0 is a hole. Misconfig stands for the memory type 7, which no CPU accepts: the next walk through the entry exits to Xen
// (misconfig.ts); recalc says that types below are then to be computed anew. The walks answer a level in 13:12,
// and mask what they find there. Valid memory types are not kept: memory-type.ts computes them.
// Not modelled: a and d bits (so no PML: log-dirty works by write faults), suppress_ve, superpages without x (XSA-304: the model's
// guests fetch no instructions).
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { TableIndex } from '../shared-memory/table-pages.ts';
import { cpuRights } from './types.ts';

export const SLOT_R = 1;
export const SLOT_W = 2;
export const SLOT_X = 4;
export const SLOT_SP = 8;
/** Types at and below the entry are to be computed anew; only ever together with SLOT_MISCONFIG. */
export const SLOT_RECALC = 1 << 12;
export const SLOT_SNP = 1 << 14;
/** No CPU walks on from here before Xen has looked at the entry. Devices do: they do not ask for memory types. */
export const SLOT_MISCONFIG = 1 << 15;
/** Rights of a CPU; an entry with none of them is not present. */
export const SLOT_RIGHTS = SLOT_R | SLOT_W | SLOT_X;
const FRAME_SCALE = 65536;
const INVERSE = 1 / FRAME_SCALE;

/** Levels of the tree: 3 is the root; a leaf of level i has order 9·i. */
export const ROOT_LEVEL = 3;
export const levelOrder = (level: number): number => level * 9;

export const slotFrame = (slot: number): number => Math.floor(slot * INVERSE);
/** Exact: ToInt32 is modulo 2^32, and a slot is below 2^53. */
export const slotLow = (slot: number): number => slot & 0xffff;
/** The type field has five bits, of which the highest stands apart (Xen's has six). */
export const slotType = (low: number): number => ((low >> 4) & 15) | ((low >> 9) & 16);
const typeBits = (type: number): number => ((type & 15) << 4) | ((type & 16) << 9);
export const slotAccess = (low: number): number => (low >> 8) & 15;
export const makeSlot = (frame: number, low: number): number => frame * FRAME_SCALE + low;

/** A leaf of `level`; rights follow from type and access. */
export function makeLeaf(m: Mfn | number, level: number, type: number, access: number): number {
  return makeSlot(m, cpuRights(type, access) | (level > 0 ? SLOT_SP : 0) | typeBits(type) | (access << 8));
}

export const makeMiddle = (table: TableIndex): number => makeSlot(table, SLOT_R | SLOT_W | SLOT_X);

/** Leaf of a split: the i-th of 512, one level down. PoD-ness, type and rights are inherited (p2m fact sheet 5.5). */
export function splitChild(slot: number, parentLevel: number, i: number): number {
  const frame = slotFrame(slot);
  const low = slotLow(slot);
  const childLow = parentLevel - 1 === 0 ? low & ~SLOT_SP : low;
  return makeSlot(frame === INVALID_MFN ? frame : frame + i * 512 ** (parentLevel - 1), childLow);
}

/** Index into the table of `level` for a gfn. */
export function tableOffset(g: number, level: number): number {
  const high = Math.floor(g / 262_144);
  if (level >= 2) return level === 3 ? (high >> 9) & 511 : high & 511;
  const low = g - high * 262_144;
  return level === 1 ? low >> 9 : low & 511;
}
