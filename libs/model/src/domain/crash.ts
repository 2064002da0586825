// How a domain dies of its own or its builder's fault: it is marked, its vCPUs stop at the next safepoint of theirs, and the
// console says who crashed whom. The toolstack then applies on_crash; nothing is freed here.

import type { Host } from '../host.ts';
import { shutdownReason } from '../hypercall/calls.ts';
import { counter } from '../shared-memory/counters.ts';
import type { Domain } from './domain.ts';
import { domainRecord } from './domain-record.ts';

const C_CRASH = counter('domain.crash');

/** Marks `d` shut down for `reason`; the first reason stays. True if this call did it. */
export function domainShutdown(d: Domain, reason: number): boolean {
  return Atomics.compareExchange(d.r.words, domainRecord.at.shutdown, 0, reason + 1) === 0;
}

/**
 * As Xen's domain_crash. `text` is the line that says why ("domain_crash called from …" where Xen has no better one).
 * May be called under any lock. Crashing dom0 is a host panic.
 */
export function domainCrash(h: Host, d: Domain, text: string): void {
  if (!domainShutdown(d, shutdownReason.crash)) return;
  h.counters.add(C_CRASH);
  h.platform.printk(text);
  if (h.current === d) h.platform.printk(`Domain ${d.domid} (vcpu#${h.currentVcpu}) crashed on cpu#${h.cpu}:`);
  else h.platform.printk(`Domain ${d.domid} reported crashed by domain ${h.current?.domid ?? 32767} on cpu#${h.cpu}:`);
  if (d.isHardware) h.panic('Hardware Dom0 crashed');
}
