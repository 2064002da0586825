// Pausing: a domain's vCPUs stay out of guest mode while its pause count is not 0 or it is shut down. A vCPU says when it
// is in guest mode (`running`); a pauser raises the count and then waits for that to reach 0. Both words are written with
// sequential consistency, so either the vCPU sees the pause before it runs, or the pauser sees the vCPU running.
// Devices are not asked: pausing does not stop DMA.
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import type { Domain } from './domain.ts';
import { domainRecord } from './domain-record.ts';

/** Controller pauses that may add up (Xen's limit). */
const MAX_PAUSES = 255;

/** The domain may not execute now. */
export const isHeld = (d: Domain): boolean =>
  Atomics.load(d.r.words, domainRecord.at.pauseCount) > 0 || d.crashed || d.dying;

/** VM entry of one of its vCPUs for a slice of accesses; false = it is held. Pair with `leaveGuest`. */
export function enterGuest(d: Domain): boolean {
  Atomics.add(d.r.words, domainRecord.at.running, 1);
  if (!isHeld(d)) return true;
  leaveGuest(d);
  return false;
}

export function leaveGuest(d: Domain): void {
  if (Atomics.sub(d.r.words, domainRecord.at.running, 1) === 1) Atomics.notify(d.r.words, domainRecord.at.running);
}

/** 0, or -EOVERFLOW. Returns when no vCPU of `d` is in guest mode. No lock of level above domctl may be held. */
export function pauseDomain(h: Host, d: Domain): number {
  const { words } = d.r;
  const at = domainRecord.at.pauseCount;
  for (;;) {
    const count = Atomics.load(words, at);
    if (count >= MAX_PAUSES) return -errno.EOVERFLOW;
    if (Atomics.compareExchange(words, at, count, count + 1) === count) break;
  }
  waitUntilOut(h, d);
  return 0;
}

/** Until every vCPU that was in guest mode has left it. */
export function waitUntilOut(h: Host, d: Domain): void {
  const at = domainRecord.at.running;
  if (Atomics.load(d.r.words, at) === 0) return;
  h.lockTable.waitUntil(
    d.r.words,
    at,
    () => `the vCPUs of d${d.domid} to leave guest mode`,
    () => Atomics.load(d.r.words, at) === 0,
  );
}

/** 0, or -EINVAL when it was not paused. */
export function unpauseDomain(d: Domain): number {
  const { words } = d.r;
  const at = domainRecord.at.pauseCount;
  for (;;) {
    const count = Atomics.load(words, at);
    if (count === 0) return -errno.EINVAL;
    if (Atomics.compareExchange(words, at, count, count - 1) === count) return 0;
  }
}
