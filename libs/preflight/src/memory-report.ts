// A guest's memory: what it needs of the host, populate-on-demand (can it die, who touches an unpopulated page first, how much would
// be enough), and what ballooning does with the devices it has. Numbers are libxl's own.
import { logText } from '#formats/xl-output';
import type { BuildInfo } from '#model/toolstack/build-info';
import { VGA_HOLE_PAGES } from '#model/toolstack/build-layout';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { libxlAt, libxlError } from '#model/toolstack/libxl-log';
import type { Finding } from './finding.ts';
import type { GuestLayout } from './guest-layout.ts';
import { counted, KIB_PER_MIB } from './ranges.ts';

const KIB_PER_PAGE = 4;
export const POD_WITH_DEVICE = 'IOMMU required for device passthrough but not supported together with PoD';
const POD_REFUSED = logText(libxlError(libxlAt.podWithPassthrough, POD_WITH_DEVICE));

export interface PodReport {
  readonly canDie: boolean;
  /** Pages of the guest that have no memory at first, beyond what the cache can fill. */
  readonly debtPages: number;
  readonly entriesPages: number;
  readonly cachePages: number;
  /** MiB of `memory=` with which nothing can go wrong. */
  readonly enoughMib: number;
  /** Who meets an unpopulated page, in the order in which it happens. */
  readonly whoTouches: readonly string[];
}

export interface MemoryReport {
  readonly memoryMib: number;
  readonly maxmemMib: number;
  /** Must be free on the host. */
  readonly neededMib: number;
  readonly pod: PodReport | null;
  readonly balloon: { readonly verdict: 'allowed' | 'useless' | 'dangerous' | 'refused'; readonly why: string };
}

/** Also where libxl refuses the combination: what would happen without the check. */
export function memoryReport(config: GuestConfig, layout: GuestLayout): MemoryReport | null {
  const maxMemkb = config.maxMemkb ?? layout.build?.maxMemkb;
  if (maxMemkb === undefined) return null;
  const targetMemkb = config.targetMemkb ?? maxMemkb;
  const pod =
    config.type !== 'pv' && targetMemkb < maxMemkb ? podReport(config, layout.build, targetMemkb, maxMemkb) : null;
  return {
    memoryMib: Math.floor(targetMemkb / KIB_PER_MIB),
    maxmemMib: Math.floor(maxMemkb / KIB_PER_MIB),
    neededMib: Math.floor((layout.build?.needMemkb ?? targetMemkb) / KIB_PER_MIB),
    pod,
    balloon: balloonVerdict(config, pod),
  };
}

function podReport(config: GuestConfig, build: BuildInfo | null, targetMemkb: number, maxMemkb: number): PodReport {
  const video = build?.videoMemkb ?? config.videoMemkb ?? 0;
  const hole = config.type === 'hvm' ? VGA_HOLE_PAGES : 0;
  const entriesPages = Math.floor((maxMemkb - video) / KIB_PER_PAGE) - hole;
  const cachePages = Math.max(0, Math.floor((targetMemkb - video) / KIB_PER_PAGE) - hole);
  const device = config.pci.length > 0;
  return {
    canDie: true,
    debtPages: entriesPages - cachePages,
    entriesPages,
    cachePages,
    enoughMib: Math.ceil(maxMemkb / KIB_PER_MIB),
    whoTouches: [
      'dom0: loads firmware and kernel through foreign mappings; each page it maps is populated',
      'CPU: firmware and kernel, page by page as they write; a page that is still all zero is taken back',
      ...(device
        ? ['device: cannot populate; a DMA to a page that no CPU has touched faults, and the data is lost']
        : []),
      'dom0 again: back ends map grants, QEMU maps buffers; each page is populated',
    ],
  };
}

function balloonVerdict(config: GuestConfig, pod: PodReport | null): MemoryReport['balloon'] {
  const device = config.pci.length > 0;
  if (config.type === 'hvm' && !config.xenPlatformPci) {
    return { verdict: 'useless', why: 'without xen_platform_pci no balloon driver finds its device' };
  }
  if (device && pod) return { verdict: 'refused', why: 'below its maximum with a device: libxl refuses to create it' };
  if (device) {
    return {
      verdict: 'dangerous',
      why: 'less works while it runs (the pages leave the IOMMU too), but then a reboot is refused',
    };
  }
  if (config.passthrough !== 'default' && config.passthrough !== 'disabled' && !pod) {
    return {
      verdict: 'dangerous',
      why: 'the IOMMU is on for it: ballooned down and rebooted, libxl refuses it even without a device',
    };
  }
  if (pod)
    return {
      verdict: 'allowed',
      why: 'it starts below its maximum and lives on its balloon: without the driver it dies when it uses all it sees',
    };
  return { verdict: 'allowed', why: 'between 0 and its maximum; upwards there is nothing to gain' };
}

export function memoryFindings(config: GuestConfig, report: MemoryReport, subject: string): Finding[] {
  const { pod, maxmemMib, memoryMib } = report;
  if (pod && config.pci.length > 0) {
    return [
      {
        code: 'POD-REFUSED',
        severity: 'blocker',
        subject,
        message: `memory=${memoryMib} below maxmem=${maxmemMib} with a device: it would be populated on demand, and a device cannot wait for that`,
        evidence: [
          POD_REFUSED,
          `${counted(pod.debtPages, 'page')} would have no memory behind them; hot-plugged instead: (XEN) d1: assign (…) failed (-18)`,
        ],
        remedy: `maxmem = ${memoryMib} (same memory as now), or memory = ${maxmemMib} (if the host has it)`,
      },
    ];
  }
  if (pod) return [podCanDie(pod, report, subject)];
  if (config.pci.length === 0 || config.type !== 'hvm') return [];
  return [
    {
      code: 'BALLOON-REBOOT-REFUSED',
      severity: 'info',
      subject,
      message:
        'do not balloon it: after `xl mem-set` to less and a reboot it would be built below its maximum, with its device',
      evidence: [POD_REFUSED],
      remedy: 'leave its memory alone; to give it less, shut it down, change memory= and create it again',
    },
  ];
}

function podCanDie(pod: PodReport, { memoryMib, maxmemMib }: MemoryReport, subject: string): Finding {
  return {
    code: 'POD-CAN-DIE',
    severity: 'warning',
    subject,
    message: `it sees ${maxmemMib} MiB and has ${memoryMib}: if it writes to more than that before its balloon driver has given ${maxmemMib - memoryMib} MiB back, Xen kills it`,
    evidence: [
      `${pod.entriesPages} PoD entries, ${pod.cachePages} pages in the cache, ${pod.debtPages} owed`,
      `(XEN) p2m_pod_demand_populate: Dom1 out of PoD memory! (tot=${pod.cachePages + 16} ents=${pod.debtPages} dom1)`,
    ],
    remedy: `memory = ${pod.enoughMib} is enough for certain; else a kernel with the balloon driver that does not touch all its memory at boot (no memory test, no zeroing of free pages)`,
  };
}
