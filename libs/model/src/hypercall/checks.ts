// What every number and domain that comes from a caller must pass before the model uses it. A payload is hostile: it may
// hold fractions, negatives, NaN, strings, or frames beyond any address width.
import type { Domain } from '../domain/domain.ts';
import { DOMID_SELF, MAX_GFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { Extents } from './calls.ts';
import type { Caller } from './continuation.ts';
import { errno } from './errno.ts';

/** An integer >= 0 that a double holds exactly. */
export const isCount = (n: unknown): n is number => typeof n === 'number' && Number.isSafeInteger(n) && n >= 0;

/** A frame number that a table slot can hold. */
export const isFrame = (n: unknown): n is number => isCount(n) && n <= MAX_GFN;

/** A whole run of frames below the address width. */
export const isRun = (first: unknown, count: unknown): boolean =>
  isFrame(first) && isCount(count) && first + count - 1 <= MAX_GFN;

/** 32-bit contents tag, written with or without a sign; users take `tag | 0`. */
export const isTag = (n: unknown): n is number =>
  typeof n === 'number' && Number.isInteger(n) && (n === (n | 0) || n === n >>> 0);

/** More extents than this never fit the interface's encoding (UINT_MAX >> 6). */
const MAX_EXTENTS = 0xffff_ffff >>> 6;

/** Shape and number of extents; the frames of a scattered list are checked one by one when they are used. */
export function extentsOk(e: Extents | undefined): e is Extents {
  if (typeof e !== 'object' || e === null) return false;
  if ('frames' in e) return typeof e.frames === 'object' && e.frames !== null && isExtentCount(e.frames.length);
  return isFrame(e.start) && isExtentCount(e.count);
}

export const isExtentCount = (n: unknown): n is number => isCount(n) && n <= MAX_EXTENTS;

/** dom0 is the control domain and the hardware domain. */
export const isPrivileged = (caller: Caller): boolean => caller.domain.isHardware;

/** The domain a number names: SELF, the caller's own, or any other that exists. No privilege is checked. */
export function domainByAnyId(h: Host, caller: Caller, id: unknown): Domain | null {
  if (id === DOMID_SELF || id === caller.domain.domid) return caller.domain;
  return isCount(id) ? h.domain(id) : null;
}

/** A domain the caller may work on as a *target*: itself, or any for the control domain. Negative errno otherwise. */
export function targetDomain(h: Host, caller: Caller, id: unknown): Domain | number {
  const d = domainByAnyId(h, caller, id);
  if (!d) return -errno.ESRCH;
  return d === caller.domain || isPrivileged(caller) ? d : -errno.EPERM;
}
