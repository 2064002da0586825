// The memory_op calls that ask or tell about a domain's memory without moving frames: PoD target, memory map, highest gfn,
// reserved device regions.
import type { Domain } from '../domain/domain.ts';
import { MAX_MEMORY_MAP } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import { podSetMemTarget } from '../pod/target.ts';
import { type CallOf, type E820Type, type MemoryMapEntry, RDM_ALL } from './calls.ts';
import { domainByAnyId, isCount, isPrivileged, targetDomain } from './checks.ts';
import { type Caller, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Entries the interface allows; we store fewer. */
const MAX_ENTRIES = 1024;

function podDomain(h: Host, caller: Caller, domid: unknown): Domain | number {
  const d = domainByAnyId(h, caller, domid);
  if (!d) return -errno.ESRCH;
  if (!isPrivileged(caller)) return -errno.EPERM;
  return d.isTranslated ? d : -errno.EINVAL;
}

const podCounts = (d: Domain): Outcome =>
  done({ rc: 0, totPages: d.r.totPages, podCachePages: d.r.podCount, podEntries: d.r.podEntryCount });

/** Resizing the cache is preemptible: the same target is simply evaluated again. */
export function setPodTarget(h: Host, caller: Caller, call: CallOf<'set_pod_target'>): Outcome {
  const d = podDomain(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!isCount(call.targetPages) || call.targetPages > d.r.maxPages) return rc(-errno.EINVAL);
  const result = podSetMemTarget(h, d, call.targetPages, () => caller.preempt());
  if (result === -errno.ERESTART) return goOn(null);
  return result < 0 ? rc(result) : podCounts(d);
}

export function getPodTarget(h: Host, caller: Caller, call: CallOf<'get_pod_target'>): Outcome {
  const d = podDomain(h, caller, call.domid);
  return typeof d === 'number' ? rc(d) : podCounts(d);
}

const entryOk = (e: MemoryMapEntry | undefined): boolean =>
  typeof e === 'object' &&
  e !== null &&
  isCount(e.addr) &&
  isCount(e.size) &&
  isCount(e.type) &&
  e.type >= 1 &&
  e.type <= 5;

export function setMemoryMap(h: Host, caller: Caller, call: CallOf<'set_memory_map'>): Outcome {
  const { entries } = call;
  if (!Array.isArray(entries)) return rc(-errno.EFAULT);
  if (entries.length > MAX_ENTRIES) return rc(-errno.EINVAL);
  const d = domainByAnyId(h, caller, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  if (!entries.every(entryOk)) return rc(-errno.EFAULT);
  if (entries.length > MAX_MEMORY_MAP) return rc(-errno.ENOMEM);
  for (const [i, e] of entries.entries()) {
    d.r.memoryMap[i * 3] = e.addr;
    d.r.memoryMap[i * 3 + 1] = e.size;
    d.r.memoryMap[i * 3 + 2] = e.type;
  }
  d.r.memoryMapCount = entries.length;
  return rc(0);
}

/** The caller's own map; -ENOSYS when the toolstack has set none. */
export function memoryMap(_h: Host, caller: Caller): Outcome {
  const { memoryMap: cells, memoryMapCount } = caller.domain.r;
  if (memoryMapCount === 0) return rc(-errno.ENOSYS);
  const entries: MemoryMapEntry[] = [];
  for (let i = 0; i < memoryMapCount; i++) {
    // setMemoryMap stored only the five E820 types.
    const type = cells[i * 3 + 2] as E820Type;
    entries.push({ addr: cells[i * 3] as number, size: cells[i * 3 + 1] as number, type });
  }
  return done({ rc: 0, entries });
}

/** The highest gfn ever mapped; it never decreases. */
export function maximumGpfn(h: Host, caller: Caller, call: CallOf<'maximum_gpfn'>): Outcome {
  const d = targetDomain(h, caller, call.domid);
  return rc(typeof d === 'number' ? d : d.r.maxMappedPfn);
}

/**
 * Regions that firmware reserves for devices: all, or those whose scope names one device. Each is reported once; one that Xen
 * ignored at boot, or any without an IOMMU, is not.
 */
export function reservedDeviceMemoryMap(h: Host, _caller: Caller, call: CallOf<'reserved_device_memory_map'>): Outcome {
  const { flags, sbdf, capacity } = call;
  if (flags !== 0 && flags !== RDM_ALL) return rc(-errno.EINVAL);
  if (!isCount(capacity)) return rc(-errno.EFAULT);
  const regions = (h.config.iommuEnabled ? h.config.rmrrs : [])
    .filter((r) => flags === RDM_ALL || r.devices.some((device) => device === sbdf))
    .map((r) => ({ startPfn: r.startPfn, nrPages: r.endPfn - r.startPfn + 1 }));
  // A short buffer is filled all the same (and the error is ENOBUFS, not what the public header says).
  const result = regions.length > capacity ? -errno.ENOBUFS : 0;
  return done({ rc: result, entries: regions.slice(0, capacity), required: regions.length });
}
