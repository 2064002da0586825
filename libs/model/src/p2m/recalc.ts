// What a type that a bulk change has left pending comes to. The answer depends on the log-dirty state of *now*, not of the
// change: that is why a change need not visit every entry (p2m_recalc_type). p2m lock held, or a peek.
import type { Domain } from '../domain/domain.ts';
import { containsRange, overlapsRange } from '../shared-memory/range-set.ts';
import { isChangeable, p2mType } from './types.ts';

/** Every changeable gfn is log-dirty. A device must not be given to such a domain: its writes would be missed. */
export const p2mLogDirtyGlobal = (d: Domain): boolean => d.r.globalLogdirty !== 0;

/** p2m_is_logdirty_range: 1 all of [first, last] is, 0 nothing of it, -1 some of it (a superpage then has to be split). */
export function isLogdirtyRange(d: Domain, first: number, last: number): 0 | 1 | -1 {
  if (p2mLogDirtyGlobal(d)) return 1;
  const { logdirtyRangeCount } = d.r;
  if (logdirtyRangeCount === 0) return 0;
  const { logdirtyRanges } = d.r;
  if (containsRange(logdirtyRanges, logdirtyRangeCount, first, last)) return 1;
  return overlapsRange(logdirtyRanges, logdirtyRangeCount, first, last) ? -1 : 0;
}

/** Type of one 4K page whose entry, or a table above it, says recalc. Pages of a claimed ioreq server stay what they are. */
export function recalcType(d: Domain, type: number, g: number): number {
  if (!isChangeable(type) || (type === p2mType.ioreqServer && d.r.ioreqServer !== 0)) return type;
  return isLogdirtyRange(d, g, g) === 0 ? p2mType.ramRw : p2mType.ramLogdirty;
}
