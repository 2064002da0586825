// What Xen keeps of a grant entry while it is in use: how often it is pinned and how, for whom, and the frame that was found when
// it was pinned first. Later pins must match that, not what the guest's entry says by then (XSA-500).
// All functions: grantActive lock of the granting domain, and its grantTable lock at least for reading.
import type { Mfn } from '../frames/addresses.ts';
import { ACTIVE_WORDS, type GrantTable } from './grant-state.ts';
import { clearStatus, gtf } from './shared-entry.ts';

/** The four kinds of pins. */
export const pin = { hostWrite: 0, hostRead: 1, deviceWrite: 2, deviceRead: 3 } as const;
export type Pin = (typeof pin)[keyof typeof pin];

const DOMID = 4;
const MFN = 5;
const START = 6;
const LENGTH = 7;
/** domid + 1 of a transitive entry's source; 0 = none. */
const TRANS_DOMID = 8;
const TRANS_REF = 9;

/** More pins of one kind than this may be a counter about to overflow. */
const MAX_PINS = 2 ** 15 - 1;

export interface ActiveUse {
  readonly domid: number;
  readonly mfn: Mfn;
  readonly start: number;
  readonly length: number;
  /** Of a transitive entry: where the frame comes from. */
  readonly from: { readonly domid: number; readonly ref: number } | null;
}

const base = (ref: number): number => ref * ACTIVE_WORDS;

export const pinsOf = (t: GrantTable, ref: number, kind: Pin): number => t.active[base(ref) + kind] as number;

export function pinCount(t: GrantTable, ref: number): number {
  const at = base(ref);
  const { active } = t;
  return (active[at] as number) + (active[at + 1] as number) + (active[at + 2] as number) + (active[at + 3] as number);
}

export const isWritten = (t: GrantTable, ref: number): boolean =>
  pinsOf(t, ref, pin.hostWrite) + pinsOf(t, ref, pin.deviceWrite) > 0;

export function activeUse(t: GrantTable, ref: number): ActiveUse {
  const at = base(ref);
  const from = t.active[at + TRANS_DOMID] as number;
  return {
    domid: t.active[at + DOMID] as number,
    mfn: ((t.active[at + MFN] as number) >>> 0) as Mfn, // stored by `beginUse`
    start: t.active[at + START] as number,
    length: t.active[at + LENGTH] as number,
    from: from === 0 ? null : { domid: from - 1, ref: (t.active[at + TRANS_REF] as number) >>> 0 },
  };
}

/** The first pin is about to be set. */
export function beginUse(t: GrantTable, ref: number, use: ActiveUse): void {
  const at = base(ref);
  t.active[at + DOMID] = use.domid;
  t.active[at + MFN] = use.mfn;
  t.active[at + START] = use.start;
  t.active[at + LENGTH] = use.length;
  t.active[at + TRANS_DOMID] = use.from ? use.from.domid + 1 : 0;
  t.active[at + TRANS_REF] = use.from?.ref ?? 0;
}

/** One pin more of each kind is a risk. */
export function pinsFull(t: GrantTable, ref: number): boolean {
  const at = base(ref);
  for (let kind = 0; kind < DOMID; kind++) if ((t.active[at + kind] as number) >= MAX_PINS) return true;
  return false;
}

export function addPin(t: GrantTable, ref: number, kind: Pin): void {
  const at = base(ref) + kind;
  t.active[at] = (t.active[at] as number) + 1;
}

export function dropPin(t: GrantTable, ref: number, kind: Pin): void {
  const at = base(ref) + kind;
  t.active[at] = (t.active[at] as number) - 1;
}

/** Takes back the marks that no pin accounts for any more. */
export function settleStatus(t: GrantTable, ref: number): void {
  const marks = (isWritten(t, ref) ? 0 : gtf.writing) | (pinCount(t, ref) > 0 ? 0 : gtf.reading);
  if (marks !== 0) clearStatus(t, ref, marks);
}
