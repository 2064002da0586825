// Changes beside the tables in words: frames, context entries, cached translations, what a domain counts.
import { formatSbdf, type Mfn } from '#model/frames/addresses';
import { frameFlag } from '#model/frames/frame-table';
import type { Host } from '#model/host';
import { bank } from '#model/iommu/translation-cache';
import { slotFrame } from '#model/p2m/entry';

const hex = (n: number): string => n.toString(16);
const owner = (domid: number): string => (domid < 0 ? 'nobody' : `d${domid}`);
/** More frames than this are told as one. */
const SINGLE = 3;

export function frameChanges(now: Host, before: Host): string[] {
  const told: string[] = [];
  for (let m = 0; m < now.config.frames; m++) {
    const [a, b] = [before.frames, now.frames];
    const frame = m as Mfn;
    const parts: string[] = [];
    const [was, is] = [a.ownerOf(frame), b.ownerOf(frame)];
    if (was !== is) parts.push(`owner ${owner(was)} → ${owner(is)}`);
    if (a.count[m] !== b.count[m]) parts.push(`references ${a.count[m]} → ${b.count[m]}`);
    if (a.m2p[m] !== b.m2p[m]) parts.push(`M2P ${m2p(a.gfnOf(frame))} → ${m2p(b.gfnOf(frame))}`);
    if (a.tag[m] !== b.tag[m]) parts.push(`contents ${a.tag[m]} → ${b.tag[m]}`);
    const cached = frameFlag.podCache;
    if ((((a.flags[m] as number) ^ (b.flags[m] as number)) & cached) !== 0) {
      parts.push(((b.flags[m] as number) & cached) !== 0 ? 'into the PoD cache' : 'out of the PoD cache');
    }
    if (parts.length > 0) told.push(`mfn ${hex(m)}: ${parts.join(', ')}`);
  }
  return told.length > SINGLE ? [...told.slice(0, 1), `${told.length - 1} more frames`] : told;
}

const m2p = (gfn: number): string => (gfn < 0 ? 'none' : `gfn ${hex(gfn)}`);

export function contextChanges(now: Host, before: Host): string[] {
  const told: string[] = [];
  for (const [requester, entry] of now.iommu.contexts.entries()) {
    const old = before.iommu.contexts[requester];
    if (old === entry) continue;
    const kind = old === 0 ? 'written' : entry === 0 ? 'cleared' : 'replaced';
    told.push(`context entry of ${formatSbdf(now.iommu.requesters.at(requester).sbdf)} ${kind}`);
  }
  return told;
}

const bankNames: Readonly<Record<number, string>> = {
  [bank.leaf4k]: '4K',
  [bank.leaf2m]: '2M',
  [bank.leaf1g]: '1G',
};

export function cacheChanges(now: Host, before: Host): string[] {
  const told: string[] = [];
  for (const unit of now.iommu.units) {
    const old = before.iommu.units[unit.index];
    if (old === undefined) continue;
    const texts = (entries: Iterable<{ bank: number; frame: number; value: number; did: number }>): Set<string> =>
      new Set(
        [...entries]
          .filter((e) => bankNames[e.bank] !== undefined)
          .map(
            (e) => `dfn ${hex(e.frame)} = mfn ${hex(slotFrame(e.value))} (${bankNames[e.bank]}, domain id ${e.did})`,
          ),
      );
    const [was, is] = [texts(old.cache.cached()), texts(unit.cache.cached())];
    for (const text of is) if (!was.has(text)) told.push(`IOTLB of iommu:${unit.config.id} gets ${text}`);
    for (const text of was) if (!is.has(text)) told.push(`IOTLB of iommu:${unit.config.id} drops ${text}`);
  }
  return told;
}

export function domainChanges(now: Host, before: Host): string[] {
  const told: string[] = [];
  for (const d of now.allDomains()) {
    const old = before.slot(d.slot).r;
    const fields = {
      totPages: 'tot_pages',
      podCount: 'PoD cache',
      podEntryCount: 'PoD entry_count',
      nrForeign: 'foreign leaves',
      isDying: 'dying',
      shutdown: 'shut down',
      pauseCount: 'pause count',
      deviceCount: 'devices',
    } as const;
    for (const [field, name] of Object.entries(fields) as [keyof typeof fields, string][]) {
      if (old[field] !== d.r[field]) told.push(`d${d.domid}: ${name} ${old[field]} → ${d.r[field]}`);
    }
  }
  return told;
}
