// The p2m lock of a domain and the CPU-TLB flush that hangs on it. While the write lock is held a flush is only noted; the
// outermost unlock drops the lock *first* and flushes then (Xen's deferred flush, p2m fact sheet 7). Whoever gives a frame
// or a table page to somebody else under the lock must call p2mTlbFlushSync before.
import type { Domain } from '../domain/domain.ts';
import { domainRecord } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';

const C_DEFERRED = counter('cpu.flushDeferred');
const C_FLUSH = counter('cpu.flush');

/** Takes the whole p2m for writing (gfn_lock of any gfn is this lock). Recursive. */
export function p2mLock(_h: Host, d: Domain): void {
  d.locks.p2m.writeLock();
  d.r.deferFlush++;
}

export function p2mUnlock(h: Host, d: Domain): void {
  const outermost = --d.r.deferFlush === 0;
  const flush = outermost && d.r.needFlush !== 0;
  if (flush) d.r.needFlush = 0;
  d.locks.p2m.writeUnlock();
  if (flush) flushCpus(h, d);
}

export const p2mReadLock = (_h: Host, d: Domain): void => d.locks.p2m.readLock();
export const p2mReadUnlock = (_h: Host, d: Domain): void => d.locks.p2m.readUnlock();

/** ept_sync_domain: every pCPU must drop what it cached of `d`. Noted now, carried out at the outermost unlock. */
export function syncDomain(h: Host, d: Domain): void {
  if (h.config.policies.cpuFlush === 'lost') return;
  step(stepKind.cpuFlushDefer, d.domid);
  h.tlbs.requestFlush(d, h.config.pcpus);
  if (d.r.deferFlush > 0) {
    d.r.needFlush = 1;
    h.counters.add(C_DEFERRED);
  } else flushCpus(h, d);
}

/** Carries out a noted flush now, lock held (p2m_tlb_flush_sync). */
export function p2mTlbFlushSync(h: Host, d: Domain): void {
  if (d.r.needFlush === 0) return;
  d.r.needFlush = 0;
  flushCpus(h, d);
}

/** The IPI: returns when no pCPU still executes on translations from before the request. */
function flushCpus(h: Host, d: Domain): void {
  step(stepKind.cpuFlush, d.domid);
  h.counters.add(C_FLUSH);
  h.tlbs.waitForExits(h, d);
}

/** A CPU that has a flush pending for `d`: for invariants. */
export const flushPending = (d: Domain, cpu: number): boolean =>
  (Atomics.load(d.r.words, domainRecord.at.invalidate + (cpu >> 5)) & (1 << (cpu & 31))) !== 0;
