// The entries of a grant table as its guest writes them, both versions, and how Xen marks one as in use. Everything here is
// shared with a hostile writer: words are read once, changes are compare-and-exchange, retries are bounded.
//
//   version 1   flags 15:0 | domid 31:16     frame
//   version 2   flags 15:0 | domid 31:16     page_off 15:0 | length 31:16     frame, low     frame, high
//               a transitive grant: trans_domid 15:0 in word 1, its reference in word 2
//   Version 2 has reading and writing in a status word of their own, which the guest reads.
import { step, stepKind } from '../shared-memory/step.ts';
import { ENTRIES_V1, type GrantTable } from './grant-state.ts';
import { gntst } from './status.ts';

/** GTF_* */
export const gtf = {
  typeMask: 3,
  permitAccess: 1,
  acceptTransfer: 2,
  transitive: 3,
  readonly: 4,
  reading: 8,
  writing: 16,
  subPage: 256,
} as const;

/** References 0…7 are the toolstack's. */
export const RESERVED_ENTRIES = 8;
const PAGE = 4096;
/** Xen gives up on an entry that its owner keeps changing after so many tries. */
const RETRIES = 5;

const V1_WORDS = 2;
const V2_WORDS = 4;
export const entryWord = (version: number, ref: number): number => ref * (version === 2 ? V2_WORDS : V1_WORDS);

export const flagsOf = (header: number): number => header & 0xffff;
export const domidOf = (header: number): number => header >>> 16;
export const headerOf = (flags: number, domid: number): number => flags | (domid << 16);

/** What an entry gives access to. */
export interface Granted {
  /** gfn in the granting domain. */
  readonly frame: number;
  readonly start: number;
  readonly length: number;
}

export function grantedBy(t: GrantTable, ref: number): Granted {
  const at = entryWord(t.version, ref);
  if (t.version !== 2) return { frame: (t.shared[at + 1] as number) >>> 0, start: 0, length: PAGE };
  const header = Atomics.load(t.shared, at);
  const low = (t.shared[at + 2] as number) >>> 0;
  const high = (t.shared[at + 3] as number) >>> 0;
  const frame = high * 2 ** 32 + low;
  if ((flagsOf(header) & gtf.subPage) === 0) return { frame, start: 0, length: PAGE };
  const part = t.shared[at + 1] as number;
  return { frame, start: part & 0xffff, length: part >>> 16 };
}

/** Of a transitive entry: whose grant it passes on. */
export function passedOnBy(t: GrantTable, ref: number): { domid: number; ref: number } {
  const at = entryWord(2, ref);
  return { domid: (t.shared[at + 1] as number) & 0xffff, ref: (t.shared[at + 2] as number) >>> 0 };
}

export const isTransitive = (t: GrantTable, ref: number): boolean =>
  t.version === 2 && (flagsOf(Atomics.load(t.shared, entryWord(2, ref))) & gtf.typeMask) === gtf.transitive;

/** The entry as it stands does not give `domid` this access. `wide`: sub-page and transitive entries will do (copies). */
function refused(header: number, domid: number, readonly: boolean, wide: boolean): boolean {
  const flags = flagsOf(header);
  const type = flags & gtf.typeMask;
  const passes = type === gtf.permitAccess || (wide && type === gtf.transitive);
  if (!passes || (!wide && (flags & gtf.subPage) !== 0)) return true;
  return domidOf(header) !== domid || (!readonly && (flags & gtf.readonly) !== 0);
}

/**
 * Marks the entry as being read, and written unless `readonly` (_set_status). okay, or generalError: it is not for `domid`, or its
 * owner keeps changing it. Caller: grantTable (read) and grantActive locks.
 */
export function setStatus(t: GrantTable, ref: number, domid: number, readonly: boolean, wide: boolean): number {
  const marks = gtf.reading | (readonly ? 0 : gtf.writing);
  return t.version === 2
    ? setStatusV2(t, ref, domid, readonly, wide, marks)
    : setStatusV1(t, ref, domid, readonly, marks);
}

function setStatusV1(t: GrantTable, ref: number, domid: number, readonly: boolean, marks: number): number {
  const at = entryWord(1, ref);
  for (let i = 0; i < RETRIES; i++) {
    step(stepKind.read, ref);
    const header = Atomics.load(t.shared, at);
    if (refused(header, domid, readonly, false)) return gntst.generalError;
    step(stepKind.write, ref);
    if (Atomics.compareExchange(t.shared, at, header, header | marks) === header) return gntst.okay;
  }
  return gntst.generalError;
}

function setStatusV2(
  t: GrantTable,
  ref: number,
  domid: number,
  readonly: boolean,
  wide: boolean,
  marks: number,
): number {
  const at = entryWord(2, ref);
  step(stepKind.read, ref);
  const header = Atomics.load(t.shared, at);
  if (refused(header, domid, readonly, wide)) return gntst.generalError;
  const before = Atomics.load(t.status, ref);
  step(stepKind.write, ref);
  Atomics.or(t.status, ref, marks);
  // The owner may have withdrawn it between: whoever of the two wrote first is seen by the other.
  step(stepKind.read, ref);
  if (!refused(Atomics.load(t.shared, at), domid, readonly, wide)) return gntst.okay;
  Atomics.and(t.status, ref, ~(marks & ~before));
  return gntst.generalError;
}

/** Takes marks away; Xen's only. */
export function clearStatus(t: GrantTable, ref: number, marks: number): void {
  step(stepKind.write, ref);
  if (t.version === 2) Atomics.and(t.status, ref, ~marks);
  else Atomics.and(t.shared, entryWord(1, ref), ~marks);
}

/** reading | writing, as the granting domain sees it. */
export function statusOf(t: GrantTable, ref: number): number {
  const marks = t.version === 2 ? Atomics.load(t.status, ref) : Atomics.load(t.shared, entryWord(1, ref));
  return marks & (gtf.reading | gtf.writing);
}

/** Version 1 to 2 or back: the toolstack's entries are carried over, all others start empty. */
export function convertTable(t: GrantTable, to: number): void {
  const from = t.version;
  const kept: { header: number; frame: number }[] = [];
  for (let ref = 0; ref < RESERVED_ENTRIES; ref++) {
    const at = entryWord(from, ref);
    const frame = t.shared[at + (from === 2 ? 2 : 1)] as number;
    kept.push({ header: (t.shared[at] as number) & ~(gtf.reading | gtf.writing), frame });
  }
  t.shared.fill(0, 0, t.frames * ENTRIES_V1 * V1_WORDS);
  t.status.fill(0, 0, (t.frames * ENTRIES_V1) / 2);
  for (const [ref, { header, frame }] of kept.entries()) {
    const at = entryWord(to, ref);
    t.shared[at + (to === 2 ? 2 : 1)] = frame;
    t.shared[at] = header;
  }
}
