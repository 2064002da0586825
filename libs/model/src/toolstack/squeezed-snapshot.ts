// What squeezed sees of the host before it decides: free memory less what is promised, and every guest's range, target and size.
// Taking it has the side effects that squeezed's has: a guest's offset is fixed at first sight, limits above a target come down,
// guests that ignore their target are marked. It decides nothing about targets.
import type { DomainInfo } from '../hypercall/calls.ts';
import { readKb, TARGET } from './memory-ops.ts';
import type { Operation, ToolstackPorts } from './ports.ts';
import { atTarget, isUncooperative, type SqueezedDomain, type SqueezedHost } from './squeezed.ts';
import { INITIAL_RESERVATION, totalReservedKb } from './squeezed-reservations.ts';

const SCRUB_WAIT_MS = 250;
const SCRUB_STEP_PAGES = 1024;
const KB_PER_PAGE = 4;
/** Added to every limit: xapi's internal overhead of an HVM domain. */
export const EXTRA_KB = 1024;
const LIST_MAX = 1024;

export const DYNAMIC_MIN = 'memory/dynamic-min';
export const DYNAMIC_MAX = 'memory/dynamic-max';
const OFFSET = 'memory/memory-offset';
const FEATURE_BALLOON = 'control/feature-balloon';
const GUEST_AGENT = 'data/updated';
const UNCOOPERATIVE = 'memory/uncooperative';
/** Ours: squeezed keeps these times in its own memory; here each request is a program of its own. */
const OFF_TARGET_SINCE = 'memory/off-target-since';

interface Sighted extends SqueezedDomain {
  /** Constant difference between the pages that a guest has and its target. */
  readonly offsetKb: number;
}

export interface Snapshot extends SqueezedHost {
  readonly domains: readonly Sighted[];
}

/** A domain that is still being built: it has what it may have, and the rest of its reservation is not free. */
function sightUnbooted(ports: ToolstackPorts, info: DomainInfo): { domain: Sighted; unaccountedKb: number } | null {
  const { domid, totPages, maxPages } = info;
  const reservedKb = readKb(ports, domid, INITIAL_RESERVATION);
  if (reservedKb === null) return null; // nobody told squeezed of it
  const kb = maxPages * KB_PER_PAGE - EXTRA_KB;
  const { rc, bytes = 0 } = ports.port.call({ op: 'get_paging_mempool_size', domid });
  const pagingKb = rc < 0 ? 0 : bytes / 1024;
  const unaccountedKb = Math.max(0, reservedKb - totPages * KB_PER_PAGE - pagingKb);
  const fixed = { dynamicMinKb: kb, dynamicMaxKb: kb, targetKb: kb, actualKb: kb };
  return { domain: { domid, canBalloon: false, ...fixed, offsetKb: 0 }, unaccountedKb };
}

/** null: its nodes vanished while we looked; it is skipped. */
function sightBooted(ports: ToolstackPorts, { domid, totPages }: DomainInfo, canBalloon: boolean): Sighted | null {
  const { xenstore } = ports;
  const totKb = totPages * KB_PER_PAGE;
  const targetKb = readKb(ports, domid, TARGET);
  if (targetKb === null) return null;
  let offsetKb = readKb(ports, domid, OFFSET);
  if (offsetKb === null) {
    offsetKb = totKb - targetKb;
    xenstore.write(domid, OFFSET, String(offsetKb));
  }
  const min = readKb(ports, domid, DYNAMIC_MIN);
  const max = readKb(ports, domid, DYNAMIC_MAX);
  const range = min === null || max === null ? { min: targetKb, max: targetKb } : { min, max };
  return {
    domid,
    canBalloon,
    dynamicMinKb: range.min,
    dynamicMaxKb: range.max,
    targetKb,
    actualKb: totKb - offsetKb,
    offsetKb,
  };
}

/** A toolstack may have created a domain with the limit of its static maximum: down to the target is always safe. */
function lowerLimit(ports: ToolstackPorts, { domid, targetKb, offsetKb }: Sighted, maxKb: number): void {
  const wantedKb = targetKb + EXTRA_KB + offsetKb;
  if (targetKb < maxKb - EXTRA_KB && wantedKb !== maxKb) ports.port.call({ op: 'max_mem', domid, maxKb: wantedKb });
}

function markCooperation(ports: ToolstackPorts, domain: Sighted, now: number): void {
  const { xenstore } = ports;
  const { domid } = domain;
  const since = readKb(ports, domid, OFF_TARGET_SINCE);
  const marked = xenstore.read(domid, UNCOOPERATIVE) !== null;
  if (!domain.canBalloon || atTarget(domain)) {
    if (since !== null) xenstore.remove(domid, OFF_TARGET_SINCE);
    if (marked) xenstore.remove(domid, UNCOOPERATIVE);
    return;
  }
  if (since === null) xenstore.write(domid, OFF_TARGET_SINCE, String(now));
  if (!marked && isUncooperative(since ?? now, now)) xenstore.write(domid, UNCOOPERATIVE, '');
}

/** Waits until nothing is being scrubbed. dom0 is not managed. null: the hypervisor does not answer. */
export function* takeSnapshot(ports: ToolstackPorts, now: number): Operation<Snapshot | null> {
  const { port, xenstore } = ports;
  let host = port.call({ op: 'physinfo' }).info;
  while (host && host.scrubPages >= SCRUB_STEP_PAGES) {
    yield { do: 'sleep', ms: SCRUB_WAIT_MS };
    host = port.call({ op: 'physinfo' }).info;
  }
  const { infos } = port.call({ op: 'getdomaininfolist', first: 1, max: LIST_MAX });
  if (!host || !infos) return null;
  let freeKb = (host.freePages + host.scrubPages) * KB_PER_PAGE;
  const domains: Sighted[] = [];
  for (const info of infos) {
    const canBalloon = xenstore.read(info.domid, FEATURE_BALLOON) !== null;
    if (!canBalloon && xenstore.read(info.domid, GUEST_AGENT) === null) {
      const unbooted = sightUnbooted(ports, info);
      if (!unbooted) continue;
      domains.push(unbooted.domain);
      freeKb -= unbooted.unaccountedKb;
      continue;
    }
    const domain = sightBooted(ports, info, canBalloon);
    if (!domain) continue;
    domains.push(domain);
    markCooperation(ports, domain, now);
    lowerLimit(ports, domain, info.maxPages * KB_PER_PAGE);
  }
  freeKb -= totalReservedKb(
    ports,
    infos.map(({ domid }) => domid),
  );
  return { freeKb, domains };
}
