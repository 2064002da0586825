// p2m entry types, their named sets, access rights, and what each gives a CPU and a device (p2m fact sheet 2).
// Predicates read as English; nobody outside this file compares type numbers with ranges.

export const p2mType = {
  ramRw: 0,
  invalid: 1,
  ramLogdirty: 2,
  ramRo: 3,
  mmioDm: 4,
  mmioDirect: 5,
  populateOnDemand: 6,
  grantMapRw: 7,
  grantMapRo: 8,
  pagingOut: 9,
  paged: 10,
  pagingIn: 11,
  ramShared: 12,
  ramBroken: 13,
  mapForeign: 14,
  ioreqServer: 15,
  /** Ours, for the proposal of memory lending: another domain's frame, which its owner may take back at any moment. */
  lent: 16,
  /** Ours: a place for lent memory with nothing in it; an access is a fault for the lender to resolve. */
  lentAbsent: 17,
} as const;

export type P2mTypeName = keyof typeof p2mType;

const typeNames = Object.keys(p2mType) as P2mTypeName[]; // declared in numeric order, from 0
export const p2mTypeName = (type: number): P2mTypeName => typeNames[type] ?? 'invalid';

export const p2mAccess = { n: 0, r: 1, w: 2, rw: 3, x: 4, rx: 5, wx: 6, rwx: 7, rx2rw: 8, n2rwx: 9, rPw: 10 } as const;

/** Rights of access 0…10 as bits r 1, w 2, x 4. */
const accessRights: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 5, 0, 1];

const bit = (...types: readonly number[]): number => types.reduce((mask, type) => mask | (1 << type), 0);
const T = p2mType;

const RAM = bit(T.ramRw, T.ramLogdirty, T.ramRo, T.pagingOut, T.paged, T.pagingIn, T.ramShared, T.ioreqServer);
const GRANT = bit(T.grantMapRw, T.grantMapRo);
/** Hypercalls find nothing where one of these is. */
const LENT = bit(T.lent, T.lentAbsent);
const SPECIAL = bit(T.mmioDirect, T.mapForeign) | GRANT | LENT;
const HOLE = bit(T.invalid, T.mmioDm, T.paged, T.pagingIn);
/** A bulk change may turn one into another of these, lazily (misconfig.ts). */
const CHANGEABLE = bit(T.ramRw, T.ramLogdirty, T.ioreqServer);
const READ_ONLY = bit(T.ramLogdirty, T.ramRo, T.grantMapRo, T.ramShared);
const DISCARD_WRITE = bit(T.ramRo, T.grantMapRo);
const INVALID_MFN_OK = bit(T.mmioDirect, T.populateOnDemand, T.pagingOut, T.paged, T.pagingIn, T.lentAbsent);
const PAGING = bit(T.pagingOut, T.paged, T.pagingIn);
const ANY_RAM = RAM | bit(T.grantMapRw, T.grantMapRo, T.mapForeign);
/** Grants are not in it: they can vanish at any time. */
const VALID = RAM | bit(T.mmioDirect);

const member =
  (set: number) =>
  (type: number): boolean =>
    (set & (1 << type)) !== 0;

export const isRam = member(RAM);
/** Changes only through its own API; anything else crashes the subject domain. */
export const isSpecial = member(SPECIAL);
export const isHole = member(HOLE);
export const isChangeable = member(CHANGEABLE);
/** No CPU writes through it, whatever the access; a write is logged, dropped, or refused. */
export const isReadOnly = member(READ_ONLY);
/** A leaf of it stands for memory or a device, and stays until its own domain's p2m changes. */
export const isValid = member(VALID);
export const discardsWrites = member(DISCARD_WRITE);
export const mayHaveInvalidMfn = member(INVALID_MFN_OK);
export const isPaging = member(PAGING);
/** RAM, grants and foreign frames. */
export const isAnyRam = member(ANY_RAM);
export const isGrant = member(GRANT);
export const isLent = member(LENT);
export const isPod = (type: number): boolean => type === T.populateOnDemand;

const typeRights: readonly number[] = [
  7, // ramRw
  0, // invalid
  5, // ramLogdirty
  5, // ramRo
  0, // mmioDm
  7, // mmioDirect (not w in mmio_ro_ranges: leaf-slot.ts)
  0, // populateOnDemand
  3, // grantMapRw
  1, // grantMapRo
  0, // pagingOut
  0, // paged
  0, // pagingIn
  5, // ramShared
  0, // ramBroken
  3, // mapForeign
  1, // ioreqServer (its server claims writes: without a claim there are no such pages)
  3, // lent
  0, // lentAbsent
];

/** What a CPU may do: type and access together. Bits r 1, w 2, x 4. */
export const cpuRights = (type: number, access: number): number =>
  (typeRights[type] ?? 0) & (accessRights[access] ?? 0);

const iommuRights: readonly number[] = [3, 0, 3, 1, 0, -1, 0, 3, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0];

/**
 * What a device may do through *separate* tables: bits R 1, W 2 (p2m_get_iommu_flags). Note log-dirty RAM: writable, so
 * dirty bits of DMA are lost; with shared tables the device sees the CPU's r and w bits instead.
 */
export function iommuRightsOf(type: number, access: number): number {
  const rights = iommuRights[type] ?? 0;
  if (rights >= 0) return rights;
  switch (access) {
    case p2mAccess.rw:
    case p2mAccess.rwx:
      return 3;
    case p2mAccess.r:
    case p2mAccess.rx:
    case p2mAccess.rx2rw:
    case p2mAccess.rPw:
      return 1;
    case p2mAccess.w:
    case p2mAccess.wx:
      return 2;
    default:
      return 0;
  }
}
