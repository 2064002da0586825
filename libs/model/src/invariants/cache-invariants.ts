// State invariant of what units and devices have cached of I/O tables: at rest, when every flush that was owed has been made, a
// cached translation is one that the tables still give.
import { formatSbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { deviceTlb } from '../iommu/device-tlb.ts';
import { mapsAllRam } from '../iommu/one-to-one.ts';
import { bank, type CachedTranslation } from '../iommu/translation-cache.ts';
import { domidOfDid } from '../iommu/vtd/domain-ids.ts';
import { slotFrame, slotLow } from '../p2m/entry.ts';
import type { Finding } from './findings.ts';
import type { DomainSurvey, Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);
const leafBanks: readonly number[] = [bank.leaf4k, bank.leaf2m, bank.leaf1g];
const RIGHTS = 3;

/** Frame and rights alike: so neither a removed page nor a right that was taken back is reached through it. */
export function iotlbMatchesTables(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const unit of h.iommu.units) {
    for (const entry of unit.cache.cached()) {
      const of = s.domains.find(({ d }) => d.domid === domidOfDid(unit, entry.did));
      if (leafBanks.includes(entry.bank)) judge(h, of, entry, `iommu:${unit.config.id}`, found);
      else if (entry.bank === bank.context) judgeContext(h, entry, `iommu:${unit.config.id}`, found);
    }
  }
  for (const device of h.config.devices.keys()) {
    const owner = h.iommu.ownerOf(device);
    const of = s.domains.find(({ d }) => d.domid === owner);
    for (const entry of deviceTlb(h, device)?.cached() ?? []) judge(h, of, entry, `device ${device}`, found);
  }
  return found;
}

function judge(h: Host, of: DomainSurvey | undefined, entry: CachedTranslation, where: string, found: Finding[]): void {
  // Tables of nobody's (quarantine), and those that no change of memory changes, are others' business.
  if (of === undefined || mapsAllRam(of.d) || of.d.dying || of.d.crashed) return;
  const { frame: dfn, order, value } = entry;
  const [cached, rights] = [slotFrame(value), slotLow(value) & RIGHTS];
  const absent = rights === 0;
  const runs = of.d.has('hapPtShare') ? of.p2mRuns : of.ioRuns;
  const run = runs.covering(dfn) ?? of.busRuns.covering(dfn);
  const now = run === null ? -1 : run.to + dfn - run.from;
  const whole = run !== null && run.from + run.pages >= dfn + 2 ** order;
  if (absent ? run === null : now === cached && whole && (rights & ~run.rights) === 0) return;
  const truth = run === null ? 'nothing' : `mfn ${hex(now)} (rights ${run.rights})`;
  found.push({
    text: `${where} caches d${of.d.domid} dfn ${hex(dfn)} as ${absent ? 'nothing' : `mfn ${hex(cached)} (order ${order}, rights ${rights})`}, where the tables have ${truth}`,
    evidence: { domid: of.d.domid, dfn, mfn: cached, host: h.config.name },
  });
}

function judgeContext(h: Host, { frame: requester, value }: CachedTranslation, where: string, found: Finding[]): void {
  const now = h.iommu.contexts[requester] as number;
  if (now === value) return;
  const id = formatSbdf(h.iommu.requesters.at(requester).sbdf);
  found.push({
    text: `${where} caches a context entry of ${id} that is not the one there is`,
    evidence: { requester: id, cached: value, now },
  });
}
