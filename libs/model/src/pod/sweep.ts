// The emergency sweep: when the PoD cache is empty and a gfn must be populated, guest memory is searched downwards for
// pages that are still zero. Only 4K pages are reclaimed, so it shatters superpages. p2m and pod locks held throughout.
import type { Domain } from '../domain/domain.ts';
import type { Gfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { isRam } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import type { Preempt } from './pod-state.ts';
import { ZERO_CHECK_STRIDE, zeroCheck } from './zero-check.ts';

const C_SWEPT = counter('pod.sweepPages');

/** After this many gfns the sweep ends as soon as it has found something (POD_SWEEP_LIMIT). */
const SWEEP_LIMIT = 1024;

/** As Xen's p2m_pod_emergency_sweep. gfn 0 is never looked at. */
export function emergencySweep(h: Host, d: Domain, preempt: Preempt): void {
  const leaf = new Leaf();
  const start = d.r.podReclaimSingle === 0 ? d.r.podMaxGuest : d.r.podReclaimSingle;
  const limit = start > SWEEP_LIMIT ? start - SWEEP_LIMIT : 0;
  let batch: Gfn[] = [];
  let at = start;
  for (; at > 0; at--) {
    peekEntry(h, d, at as Gfn, leaf);
    if (isRam(leaf.type)) {
      batch.push(at as Gfn);
      if (batch.length === ZERO_CHECK_STRIDE) {
        zeroCheck(h, d, batch);
        batch = [];
      }
    }
    if (at < limit && (d.r.podCount > 0 || preempt?.())) break;
  }
  h.counters.add(C_SWEPT, start - at);
  if (batch.length > 0) zeroCheck(h, d, batch);
  d.r.podReclaimSingle = at > 0 ? at - 1 : 0;
}
