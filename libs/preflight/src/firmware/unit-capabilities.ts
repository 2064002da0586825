// What each VT-d unit can do, as boot logs print its two capability registers: Linux always, Xen with iommu=verbose. Owns the
// registers' bits (VT-d specification, CAP_REG and ECAP_REG) and the two spellings.
import type { HostIommuUnit } from '#formats/host-file';

export type UnitCaps = HostIommuUnit['caps'];

/** `DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap c0000020660462 ecap f0101a`; older kernels without `DMAR: ` and with `reg_base_addr 0x…`. */
const LINUX = /reg_base_addr (?:0x)?([0-9a-f]+) ver \S+ cap (?:0x)?([0-9a-f]{1,16}) ecap (?:0x)?([0-9a-f]{1,16})/g;
/** `drhd->address = fed90000 iommu->reg = …` and, on the next line, `cap = c0000020660462 ecap = f0101a`. */
const XEN =
  /drhd->address = (?:0x)?([0-9a-f]+)[^\n]*\n[^\n]*\bcap = (?:0x)?([0-9a-f]{1,16}) ecap = (?:0x)?([0-9a-f]{1,16})/g;

/** By the address of the unit's registers, in hexadecimal. */
export function capabilitiesInLog(text: string): ReadonlyMap<string, UnitCaps> {
  const found = new Map<string, UnitCaps>();
  for (const pattern of [LINUX, XEN]) {
    for (const [, base = '', cap = '', ecap = ''] of text.matchAll(pattern)) {
      found.set(BigInt(`0x${base}`).toString(16), capsOf(BigInt(`0x${cap}`), BigInt(`0x${ecap}`)));
    }
  }
  return found;
}

/** By ND, the lowest three bits of CAP_REG. */
const DOMAIN_IDS = [16, 64, 256, 1024, 4096, 16384, 65536] as const;

function capsOf(cap: bigint, ecap: bigint): UnitCaps {
  const bit = (register: bigint, at: number): boolean => ((register >> BigInt(at)) & 1n) === 1n;
  return {
    superpages: [...(bit(cap, 34) ? (['2M'] as const) : []), ...(bit(cap, 35) ? (['1G'] as const) : [])],
    snoop: bit(ecap, 7),
    cachingMode: bit(cap, 7),
    psi: bit(cap, 39),
    maxAm: Number((cap >> 48n) & 0x3fn),
    agaw: bit(cap, 10) ? 48 : 39,
    ats: bit(ecap, 2),
    rwbf: bit(cap, 4),
    domainIds: DOMAIN_IDS[Number(cap & 7n)] ?? 65536,
    queuedInvalidation: bit(ecap, 1),
  };
}

/** Of a unit whose registers no log shows: what machines of the last ten years have. */
export const ASSUMED_CAPS: UnitCaps = {
  superpages: ['2M', '1G'],
  snoop: true,
  cachingMode: false,
  psi: true,
  maxAm: 18,
  agaw: 48,
  ats: false,
  rwbf: false,
  domainIds: 65536,
  queuedInvalidation: true,
};

/** AMD-Vi never shares tables with the CPU. A unit without 1G pages says the same in a host description. */
export const AMD_CAPS: UnitCaps = { ...ASSUMED_CAPS, superpages: ['2M'] };
