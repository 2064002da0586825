// What the caches of a host hold that a flush could take away: to tell whether one did anything. Entries that are due to be dropped
// before their CPU can use them again are gone already.
import { domainRecord } from '#model/domain/domain-record';
import type { Host } from '#model/host';

/** One text for all of it. */
export function cachedTranslations(h: Host): string {
  const parts: string[] = [];
  for (let cpu = 0; cpu < h.config.pcpus; cpu++) {
    for (const { slot, gfn, leaf } of h.tlbs.entries(cpu)) {
      if (!isDue(h, cpu, slot)) parts.push(`cpu${cpu} d${slot} ${gfn}=${leaf}`);
    }
    for (const { slot, region, table } of h.tlbs.tables(cpu)) {
      if (!isDue(h, cpu, slot)) parts.push(`cpu${cpu} d${slot} ${region}→${table}`);
    }
  }
  const caches = [...h.iommu.units.map(({ cache }) => cache), ...h.iommu.deviceTlbs];
  for (const [i, cache] of caches.entries()) {
    for (const { bank, frame, value, did } of cache?.cached() ?? [])
      parts.push(`${i} ${bank} id${did} ${frame}=${value}`);
  }
  return parts.join('; ');
}

function isDue(h: Host, cpu: number, slot: number): boolean {
  const mask = h.slot(slot).r.words[domainRecord.at.invalidate + (cpu >> 5)] as number;
  return (mask & (1 << (cpu & 31))) !== 0;
}
