// From a guest's configuration to everything the domain builder needs: libxl's defaults and refusals in libxl's order, as
// libxl__domain_config_setdefault. Asks no hypervisor: what the host can do is passed in.

import type { RdmPolicy, RdmStrategy } from './construct-rdm.ts';
import { KIB, MIB } from './e820.ts';
import type { GuestConfig } from './guest-config.ts';
import { type LibxlPlace, libxlAt } from './libxl-log.ts';
import { LIBXL_MAXMEM_CONSTANT, needMemkb, type XenstoreMemory, xenstoreMemory } from './memory-maths.ts';
import {
  choosePassthrough,
  type LibxlRefusal,
  type PassthroughMode,
  type PassthroughRequest,
  type PodWithPassthrough,
  podEnabled,
  refuse,
  refuseAltp2m,
} from './passthrough-policy.ts';
import type { BiosKind, VgaKind } from './platform-config.ts';
import { checkVnuma } from './vnuma.ts';

/** What libxl asks the hypervisor for (physinfo). */
export interface HostCaps {
  readonly hap: boolean;
  readonly shadow: boolean;
  /** An IOMMU is in use. */
  readonly hvmDirectio: boolean;
  readonly iommuHapPtShare: boolean;
  readonly nodes: number;
  readonly onlineCpus: number;
}

export interface BuildOptions {
  /** xl.conf's claim_mode; xl's default is on. */
  readonly claimMode: boolean;
  readonly podWithPassthrough: PodWithPassthrough;
}

export const defaultBuildOptions: BuildOptions = { claimMode: true, podWithPassthrough: 'refuse' };

export interface BuildInfo {
  readonly config: GuestConfig;
  readonly hap: boolean;
  readonly passthrough: PassthroughMode;
  /** KiB, all of them. */
  readonly maxMemkb: number;
  readonly targetMemkb: number;
  readonly videoMemkb: number;
  readonly shadowMemkb: number;
  readonly iommuMemkb: number;
  /** Must be free on the host before the domain is created. */
  readonly needMemkb: number;
  /** What the domain may grow to while it is built (domctl max_mem). */
  readonly maxmemLimitKb: number;
  readonly podEnabled: boolean;
  readonly claimMode: boolean;
  readonly vga: VgaKind;
  readonly bios: BiosKind;
  readonly rdm: { readonly strategy: RdmStrategy; readonly policy: RdmPolicy };
  readonly rdmMemBoundaryMemkb: number;
  readonly xenstore: XenstoreMemory;
}

export type BuildInfoResult = { readonly ok: true; readonly build: BuildInfo } | LibxlRefusal;

/** memory= and maxmem= both absent. */
export const DEFAULT_MEMKB = 32 * KIB;
const DEFAULT_RDM_BOUNDARY_MEMKB = (2048 * MIB) / KIB;

interface VideoDefault {
  readonly memkb: number;
  readonly refusal: string;
  readonly at: LibxlPlace | null;
}

/** Default and least video memory by adapter. */
const videoDefaults: Readonly<Record<VgaKind, VideoDefault>> = {
  none: { memkb: 0, refusal: '', at: null },
  qxl: {
    memkb: 128 * KIB,
    refusal: '128 Mib videoram is the minimum for qxl default',
    at: libxlAt.qxlVideoram,
  },
  std: {
    memkb: 16 * KIB,
    refusal: 'videoram must be at least 16 MB for STDVGA on QEMU_XEN',
    at: libxlAt.stdvgaVideoram,
  },
  cirrus: {
    memkb: 8 * KIB,
    refusal: 'videoram must be at least 8 MB for CIRRUS on QEMU_XEN',
    at: libxlAt.cirrusVideoram,
  },
};

function videoMemory(config: GuestConfig, vga: VgaKind): number | LibxlRefusal {
  if (config.type !== 'hvm') return config.videoMemkb ?? 0;
  const { memkb, refusal, at } = videoDefaults[vga];
  const chosen = config.videoMemkb ?? memkb;
  return chosen < memkb ? refuse(at, refusal) : chosen;
}

function chooseHap(config: GuestConfig, caps: HostCaps): boolean | LibxlRefusal {
  if (config.type === 'pv') return false;
  if (!caps.hap && !caps.shadow) return refuse(libxlAt.noHapNoShadow, 'neither hap nor shadow paging available');
  return config.hap ?? caps.hap;
}

/** What xl checks against the host when it reads vnuma=, then libxl's own check. */
function checkVnumaOnHost(config: GuestConfig, caps: HostCaps, maxMemkb: number): LibxlRefusal | null {
  if (config.vnuma.length === 0) return null;
  const foreign = config.vnuma.find((node) => node.pnode >= caps.nodes);
  if (foreign) return refuse(null, `xl: invalid pnode number: ${foreign.pnode}`);
  if (config.vcpusFromVnuma && caps.onlineCpus < config.maxVcpus) {
    return refuse(null, 'xl: vnuma specifies more vcpus than pcpus, use maxvcpus= to override this check.');
  }
  const invalid = checkVnuma(config.vnuma, config.maxVcpus, maxMemkb, caps.nodes);
  return invalid && refuse(invalid.at, invalid.message);
}

/** Everything the builder needs, or the first refusal that `xl create` would print. */
export function applyLibxlDefaults(
  config: GuestConfig,
  caps: HostCaps,
  options: BuildOptions = defaultBuildOptions,
): BuildInfoResult {
  const hap = chooseHap(config, caps);
  if (typeof hap !== 'boolean') return hap;
  const maxMemkb = config.maxMemkb ?? DEFAULT_MEMKB;
  const targetMemkb = config.targetMemkb ?? maxMemkb;
  const request: PassthroughRequest = {
    type: config.type,
    hap,
    numPcidevs: config.pci.length,
    numDtdevs: config.dtdevs.length,
    passthrough: config.passthrough,
    capHvmDirectio: caps.hvmDirectio,
    capIommuHapPtShare: caps.iommuHapPtShare,
    targetMemkb,
    maxMemkb,
    numVnumaNodes: config.vnuma.length,
    nestedhvm: config.nestedhvm,
    altp2m: config.altp2m,
    legacyAltp2mhvm: config.altp2mhvm,
    maxVcpus: config.maxVcpus,
    shadowMemkb: config.shadowMemkb,
    iommuMemkb: null,
    podWithPassthrough: options.podWithPassthrough,
  };
  const choice = choosePassthrough(request);
  if (!choice.ok) return choice;

  const bios = config.bios ?? 'seabios';
  if (config.type === 'hvm' && bios === 'rombios')
    return refuse(libxlAt.rombios, 'qemu-xen does not support bios=rombios.');
  const vga = config.vga ?? 'cirrus';
  const videoMemkb = videoMemory(config, vga);
  if (typeof videoMemkb !== 'number') return videoMemkb;
  const altp2mRefusal = refuseAltp2m(request) ?? checkVnumaOnHost(config, caps, maxMemkb);
  if (altp2mRefusal !== null) return altp2mRefusal;
  if (maxMemkb <= videoMemkb)
    return refuse(null, `memory of ${maxMemkb} KiB leaves nothing beside ${videoMemkb} KiB of video memory`);

  const memory = { type: config.type, maxMemkb, targetMemkb, videoMemkb };
  const { shadowMemkb, iommuMemkb, passthrough } = choice;
  return {
    ok: true,
    build: {
      config,
      hap,
      passthrough,
      maxMemkb,
      targetMemkb,
      videoMemkb,
      shadowMemkb,
      iommuMemkb,
      needMemkb: needMemkb({ ...memory, shadowMemkb, iommuMemkb, stubdomain: false, stubdomainMemkb: 0 }),
      maxmemLimitKb: targetMemkb + LIBXL_MAXMEM_CONSTANT,
      podEnabled: podEnabled(request),
      claimMode: options.claimMode,
      vga,
      bios,
      rdm: { strategy: config.rdm.strategy, policy: config.rdm.policy === 'invalid' ? 'relaxed' : config.rdm.policy },
      rdmMemBoundaryMemkb: config.rdmMemBoundaryMemkb ?? DEFAULT_RDM_BOUNDARY_MEMKB,
      xenstore: xenstoreMemory(memory),
    },
  };
}
