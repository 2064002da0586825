// A small real host for specs: 64 MiB of RAM, one IOMMU unit, one translated domain with its p2m ready.
import type { Domain } from '#model/domain/domain';
import { domainFeature, domainRecord, domainState } from '#model/domain/domain-record';
import { sbdf } from '#model/frames/addresses';
import { createHost, Host, type Platform, type Violation } from '#model/host';
import { capableUnit, defaultPolicies, type HostConfig, tablePagesFor } from '#model/host-config';
import { p2mInit } from '#model/p2m/lifecycle';
import { setPagingPool } from '#model/p2m/paging-pool';

/** RAM up to the last frame, but for the reserved regions in it. */
function ramAround(frames: number, rmrrs: HostConfig['rmrrs']): HostConfig['memoryMap'] {
  const inside = rmrrs.filter((r) => r.startPfn < frames && r.startPfn <= r.endPfn);
  const edges = inside.flatMap((r) => [r.startPfn, r.endPfn + 1]);
  const cuts = [...new Set([0, ...edges, frames])].sort((a, b) => a - b);
  return cuts.slice(0, -1).map((start, i) => ({
    addr: start * 4096,
    size: ((cuts[i + 1] ?? frames) - start) * 4096,
    type: inside.some((r) => r.startPfn <= start && start <= r.endPfn) ? 2 : 1,
  }));
}

export function smallConfig(overrides: Partial<HostConfig> = {}): HostConfig {
  const frames = overrides.frames ?? 16_384;
  return {
    name: 'small',
    pcpus: 2,
    dmaThreads: 1,
    maxDomains: 8,
    frames,
    heapRanges: [{ start: 0x10, end: frames }],
    memoryMap: ramAround(frames, overrides.rmrrs ?? []),
    hap: true,
    ept: { superpage2m: true, superpage1g: true },
    iommuEnabled: true,
    units: [capableUnit],
    quarantine: 'basic',
    devices: [
      {
        sbdf: sbdf(0, 0, 2, 0),
        name: 'gpu',
        vendor: 0x8086,
        device: 0x1912,
        pciClass: 0x0300,
        unit: 0,
        upstreamBridge: null,
        bars: [],
      },
    ],
    rmrrs: [],
    tablePages: tablePagesFor(frames),
    policies: defaultPolicies,
    ...overrides,
  };
}

export interface Recorded extends Platform {
  readonly lines: string[];
  readonly violations: Violation[];
}

export function recorder(): Recorded {
  const lines: string[] = [];
  const violations: Violation[] = [];
  return {
    lines,
    violations,
    printk: (line) => {
      lines.push(line);
    },
    violation: (v) => {
      violations.push(v);
    },
  };
}

export interface Fixture {
  readonly h: Host;
  readonly log: Recorded;
}

export function bootSmall(overrides: Partial<HostConfig> = {}): Fixture {
  const config = smallConfig(overrides);
  const log = recorder();
  const h = new Host(createHost(config), 0, log);
  for (const { start, end } of config.heapRanges) h.heap.addRange(start, end);
  return { h, log };
}

/** A translated domain without devices; `pool` pages for its tables, `maxPages` of RAM allowed. */
export function bareDomain(h: Host, domid: number, pool = 512, maxPages = 1e6): Domain {
  const d = h.claimSlot(domid, domid === 0);
  if (!d || d === 'exists') throw new Error('no slot');
  d.r.features = domainFeature.hvm | domainFeature.hap | (domid === 0 ? domainFeature.hardware : 0);
  d.r.vcpus = 1;
  d.r.maxPages = maxPages;
  if (p2mInit(h, d) !== 0) throw new Error('p2mInit');
  while (setPagingPool(h, d, pool) > 0);
  Atomics.store(d.r.words, domainRecord.at.state, domainState.live);
  return d;
}
