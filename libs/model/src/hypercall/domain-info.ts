// getdomaininfo and the list `xl list` is made of. No lock: every figure is a snapshot of its own.
import type { Domain } from '../domain/domain.ts';
import { domainState } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import { type CallOf, type DomainInfo, domInfoFlag } from './calls.ts';
import { isCount, isPrivileged } from './checks.ts';
import { type Caller, done, type Outcome, rc } from './continuation.ts';
import { domctlTarget } from './domctl.ts';
import { errno } from './errno.ts';

/** Entries of one list call. */
const MAX_LIST = 1024;

/** domInfoFlag bits. */
export function domainFlags(d: Domain): number {
  const reason = d.r.shutdown - 1;
  const paused = d.r.pauseCount > 0;
  const dead = d.r.state === domainState.dying || d.r.state === domainState.zombie;
  const running = !paused && reason < 0 && !dead && d.r.running > 0;
  return (
    (d.dying ? domInfoFlag.dying : 0) |
    (d.isTranslated ? domInfoFlag.hvm : 0) |
    (reason >= 0 ? domInfoFlag.shutdown | (reason << 16) : 0) |
    (paused ? domInfoFlag.paused : 0) |
    (running ? domInfoFlag.running : 0) |
    // Idle: alive, free to run, and not running.
    (!running && !paused && reason < 0 && !dead ? domInfoFlag.blocked : 0) |
    (d.has('hap') ? domInfoFlag.hap : 0)
  );
}

function infoOf(h: Host, d: Domain): DomainInfo {
  const devices = h.config.devices.filter((_, i) => h.iommu.ownerOf(i) === d.domid).map((device) => device.sbdf);
  return {
    domid: d.domid,
    name: d.name,
    flags: domainFlags(d),
    totPages: d.r.totPages,
    maxPages: d.r.maxPages,
    outstandingPages: d.r.outstandingPages,
    onlineVcpus: d.r.vcpus,
    cpuTimeUs: d.r.cpuTimeUs,
    devices,
    podEntries: d.r.podEntryCount,
    podCache: d.r.podCount,
  };
}

export function getdomaininfo(h: Host, caller: Caller, call: CallOf<'getdomaininfo'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  return typeof d === 'number' ? rc(d) : done({ rc: 0, info: infoOf(h, d) });
}

/** Domains from number `first` upwards, at most `max`; rc = how many. */
export function getdomaininfolist(h: Host, caller: Caller, call: CallOf<'getdomaininfolist'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  if (!isCount(call.first) || !isCount(call.max)) return rc(-errno.EINVAL);
  const infos = h
    .allDomains()
    .filter((d) => d.domid >= call.first)
    .sort((a, b) => a.domid - b.domid)
    .slice(0, Math.min(call.max, MAX_LIST))
    .map((d) => infoOf(h, d));
  return done({ rc: infos.length, infos });
}
