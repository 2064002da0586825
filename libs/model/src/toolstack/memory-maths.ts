// libxl's memory arithmetic: paging pool, IOMMU tables, memory needed to create a domain, xenstore's memory/ nodes.
// All figures are KiB. It knows no domain and no host; the caller passes what was configured.

export type DomainType = 'hvm' | 'pv' | 'pvh';

/** What a domain may exceed its target by (LIBXL_MAXMEM_CONSTANT): setmaxmem gets target + this. */
export const LIBXL_MAXMEM_CONSTANT = 1024;
/** What creating a domain costs beyond its own memory. */
export const LIBXL_HVM_EXTRA_MEMORY = 2048;
export const LIBXL_PV_EXTRA_MEMORY = 1024;

const PAGE_KB = 4;
const PAGES_PER_VCPU = 256;
const PTES_PER_TABLE = 512;
const TABLE_LEVELS = 4;
const SUPERPAGE_KB = 2048;

/**
 * As libxl__get_required_paging_memory: 1 MiB a vCPU, and per MiB of RAM a page for the p2m (not PV) and one to shadow
 * with (without HAP, which PV guests never have).
 */
export function requiredPagingMemkb(maxMemkb: number, vcpus: number, type: DomainType, hap: boolean): number {
  const pagesPerMib = type === 'pv' || hap ? 1 : 2;
  return PAGE_KB * (PAGES_PER_VCPU * vcpus + pagesPerMib * Math.floor(maxMemkb / 1024));
}

/** As libxl__get_required_iommu_memory: a full four-level table of 4K leaves for the whole of the guest's RAM. */
export function requiredIommuMemkb(maxMemkb: number): number {
  let level = Math.floor(maxMemkb / PAGE_KB);
  let pages = 0;
  for (let i = 0; i < TABLE_LEVELS; i++) {
    level = Math.ceil(level / PTES_PER_TABLE);
    pages += level;
  }
  return pages * PAGE_KB;
}

export interface NeededMemory {
  readonly type: DomainType;
  readonly targetMemkb: number;
  readonly shadowMemkb: number;
  readonly iommuMemkb: number;
  readonly videoMemkb: number;
  readonly stubdomain: boolean;
  readonly stubdomainMemkb: number;
}

/** As libxl__domain_need_memory_calculate: what must be free on the host before the domain is created; whole 2 MiB. */
export function needMemkb(m: NeededMemory): number {
  let need = m.targetMemkb + m.shadowMemkb + m.iommuMemkb;
  if (m.type === 'pv') {
    need += LIBXL_PV_EXTRA_MEMORY;
  } else {
    need += LIBXL_HVM_EXTRA_MEMORY;
    if (m.stubdomain) need += m.stubdomainMemkb + m.videoMemkb;
  }
  return Math.ceil(need / SUPERPAGE_KB) * SUPERPAGE_KB;
}

export interface TargetMemory {
  readonly type: DomainType;
  readonly maxMemkb: number;
  readonly targetMemkb: number;
  readonly videoMemkb: number;
}

/** As libxl__get_targetmem_fudge: configured target minus what xenstore's memory/target says. */
export function targetFudgeKb(m: TargetMemory): number {
  return m.videoMemkb + (m.type === 'hvm' && m.maxMemkb > m.targetMemkb ? LIBXL_MAXMEM_CONSTANT : 0);
}

export interface XenstoreMemory {
  readonly target: number;
  readonly staticMax: number;
  readonly videoram: number;
}

/** The three memory/ nodes that libxl writes while it builds the domain. */
export function xenstoreMemory(m: TargetMemory): XenstoreMemory {
  return { target: m.targetMemkb - targetFudgeKb(m), staticMax: m.maxMemkb, videoram: m.videoMemkb };
}
