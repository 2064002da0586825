// A borrower touches a page that is lent but not there. Its vCPU waits (nothing else of the domain does), the lender is told, and
// the access runs again when the lender has lent a page, or given up. One fault per vCPU at a time: the queue cannot overflow,
// whatever a borrower does. Borrower's p2m lock held, unless said otherwise.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { accessResult } from '../p2m/access-result.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { counter } from '../shared-memory/counters.ts';
import { announce, windowAt, windowsOf } from './window.ts';

const C_FAULT = counter('lend.fault');
const C_INJECTED = counter('lend.injected');

/** A vCPU's cell: (gfn + 1) * 8 and these. */
const WRITE = 1;
const DELIVERED = 2;
const INJECT = 4;
const SCALE = 8;

const gfnOf = (cell: number): number => Math.floor(cell / SCALE) - 1;

/**
 * The access of the current vCPU at `g` finds nothing, or may not write. `lendFault`: it waits; `injected`: its lender has given up and
 * the guest gets a fault; `emulated`: nobody lends there.
 */
export function faultOnLent(h: Host, d: Domain, g: number, write: boolean): number {
  const window = windowAt(d, g);
  const lender = window && h.domain(window.lender);
  if (!lender || !window.isOf(lender)) return accessResult.emulated;
  const cell = d.r.lendFaults[h.currentVcpu] as number;
  const same = cell !== 0 && gfnOf(cell) === g;
  if (same && (cell & INJECT) !== 0) {
    d.r.lendFaults[h.currentVcpu] = 0;
    h.counters.add(C_INJECTED);
    return accessResult.injected;
  }
  // Woken for another reason: the lender knows already.
  if (same && (cell & WRITE) === (write ? WRITE : 0)) return accessResult.lendFault;
  d.r.lendFaults[h.currentVcpu] = (g + 1) * SCALE + (write ? WRITE : 0);
  h.counters.add(C_FAULT);
  announce(lender);
  return accessResult.lendFault;
}

/** Pages of [first, last] were lent, or their place is gone: who waits for them tries again. */
export function clearFaults(d: Domain, first: number, last: number): void {
  for (let vcpu = 0; vcpu < d.r.vcpus; vcpu++) {
    const cell = d.r.lendFaults[vcpu] as number;
    if (cell !== 0 && gfnOf(cell) >= first && gfnOf(cell) <= last) d.r.lendFaults[vcpu] = 0;
  }
}

/** Whoever waits for `g` gets a fault. True if somebody does. */
export function injectFault(d: Domain, first: number, last: number): boolean {
  let found = false;
  for (let vcpu = 0; vcpu < d.r.vcpus; vcpu++) {
    const cell = d.r.lendFaults[vcpu] as number;
    if (cell === 0 || gfnOf(cell) < first || gfnOf(cell) > last) continue;
    d.r.lendFaults[vcpu] = cell - (cell % SCALE) + ((cell % SCALE) | INJECT);
    found = true;
  }
  return found;
}

export interface LendFault {
  readonly domid: number;
  readonly vcpu: number;
  readonly gfn: number;
  readonly write: boolean;
  /** Of the window, when the fault was told: a page looked up from now on may be lent with it. */
  readonly sequence: number;
}

/** At most `max` faults on what `lender` lends that it has not been told of. Takes the borrowers' p2m locks, one by one. */
export function takeFaults(h: Host, lender: Domain, max: number): LendFault[] {
  const told: LendFault[] = [];
  for (const d of h.allDomains()) {
    if (d === lender || !windowsOf(d).some((w) => w.isOf(lender))) continue;
    p2mLock(h, d);
    for (let vcpu = 0; vcpu < d.r.vcpus && told.length < max; vcpu++) {
      const cell = d.r.lendFaults[vcpu] as number;
      if (cell === 0 || (cell & (DELIVERED | INJECT)) !== 0) continue;
      const window = windowAt(d, gfnOf(cell));
      if (!window?.isOf(lender)) continue;
      d.r.lendFaults[vcpu] = cell + DELIVERED;
      told.push({ domid: d.domid, vcpu, gfn: gfnOf(cell), write: (cell & WRITE) !== 0, sequence: window.sequence });
    }
    p2mUnlock(h, d);
  }
  return told;
}
