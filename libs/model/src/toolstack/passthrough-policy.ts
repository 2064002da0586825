// What libxl refuses and chooses about passthrough, populate-on-demand, vNUMA and altp2m, in libxl's order, as
// libxl__domain_config_setdefault. Owns the decision only: it reads no configuration file and asks no hypervisor.

import { type LibxlPlace, libxlAt } from './libxl-log.ts';
import { type DomainType, requiredIommuMemkb, requiredPagingMemkb } from './memory-maths.ts';

export type { DomainType };
/** As configured: `default` and `enabled` are resolved to one of the others. */
export type PassthroughOption = 'default' | 'disabled' | 'enabled' | 'sync_pt' | 'share_pt';
export type PassthroughMode = 'disabled' | 'sync_pt' | 'share_pt';
export type Altp2mMode = 'disabled' | 'mixed' | 'external' | 'limited';
/** `refuse` is today's libxl; the others let a domain that is not fully populated have a device, as libxl once did. */
export type PodWithPassthrough = 'refuse' | 'allow' | 'populate-first';

/** libxl's ERROR_* numbers that this area returns. */
export const ERROR_FAIL = -3;
export const ERROR_INVAL = -6;
export const ERROR_DOMAIN_NOTFOUND = -21;

export interface PassthroughRequest {
  readonly type: DomainType;
  readonly hap: boolean;
  readonly numPcidevs: number;
  readonly numDtdevs: number;
  readonly passthrough: PassthroughOption;
  readonly capHvmDirectio: boolean;
  readonly capIommuHapPtShare: boolean;
  readonly targetMemkb: number;
  readonly maxMemkb: number;
  readonly numVnumaNodes: number;
  readonly nestedhvm: boolean;
  readonly altp2m: Altp2mMode;
  /** The older key altp2mhvm; only HVM guests have it. */
  readonly legacyAltp2mhvm: boolean;
  readonly maxVcpus: number;
  /** null: use the formula. */
  readonly shadowMemkb: number | null;
  readonly iommuMemkb: number | null;
  readonly podWithPassthrough?: PodWithPassthrough;
}

export interface PassthroughChoice {
  readonly ok: true;
  readonly passthrough: PassthroughMode;
  readonly shadowMemkb: number;
  readonly iommuMemkb: number;
}

export interface LibxlRefusal {
  readonly ok: false;
  readonly rc: number;
  readonly message: string;
  /** Where libxl says so; null: not libxl's words. */
  readonly at: LibxlPlace | null;
}

export const refuse = (at: LibxlPlace | null, message: string): LibxlRefusal => ({
  ok: false,
  rc: ERROR_INVAL,
  message,
  at,
});

/** A domain built with less memory than it may grow to gets populate-on-demand; PV guests never do. */
export const podEnabled = (r: { type: DomainType; targetMemkb: number; maxMemkb: number }): boolean =>
  r.type !== 'pv' && r.targetMemkb < r.maxMemkb;

function resolveMode(r: PassthroughRequest): PassthroughMode | LibxlRefusal {
  const needed = r.numPcidevs > 0 || r.numDtdevs > 0;
  const wanted = r.passthrough === 'default' ? (needed ? 'enabled' : 'disabled') : r.passthrough;
  if (wanted !== 'disabled' && !r.capHvmDirectio)
    return refuse(libxlAt.noPassthrough, 'passthrough not supported on this platform');
  if (wanted === 'disabled')
    return needed ? refuse(libxlAt.passthroughDisabled, 'passthrough disabled but devices are specified') : wanted;
  if (r.type === 'pvh') return refuse(libxlAt.pvhPassthrough, 'passthrough not yet supported for x86 PVH guests');
  const whynot =
    r.type === 'pv'
      ? 'not valid for PV domain'
      : !r.capIommuHapPtShare
        ? 'not supported on this platform'
        : !r.hap
          ? 'only valid for HAP guests'
          : null;
  if (wanted === 'enabled') return whynot === null ? 'share_pt' : 'sync_pt';
  if (wanted === 'share_pt' && whynot !== null) return refuse(libxlAt.sharePt, `passthrough="share_pt" ${whynot}`);
  return wanted;
}

/** Mode and the two memory pools, or the first refusal, up to where libxl fills in the rest of its defaults. */
export function choosePassthrough(r: PassthroughRequest): PassthroughChoice | LibxlRefusal {
  const mode = resolveMode(r);
  if (typeof mode !== 'string') return mode;

  const pod = podEnabled(r);
  // The option matters, not the devices: an IOMMU without devices may get one by hotplug.
  if (r.type !== 'pv' && mode !== 'disabled' && pod && (r.podWithPassthrough ?? 'refuse') === 'refuse') {
    return refuse(
      libxlAt.podWithPassthrough,
      'IOMMU required for device passthrough but not supported together with PoD',
    );
  }
  if (pod && r.numVnumaNodes > 0) return refuse(libxlAt.podWithVnuma, 'Cannot enable PoD and vNUMA at the same time');
  if (r.type === 'pv' && r.numVnumaNodes > 0) return refuse(libxlAt.pvVnuma, 'PV vNUMA is not yet supported');

  const hap = r.type !== 'pv' && r.hap;
  return {
    ok: true,
    passthrough: mode,
    shadowMemkb: r.shadowMemkb ?? requiredPagingMemkb(r.maxMemkb, r.maxVcpus, r.type, hap),
    iommuMemkb: r.iommuMemkb ?? (mode === 'sync_pt' ? requiredIommuMemkb(r.maxMemkb) : 0),
  };
}

/** The refusals about altp2m, which libxl makes last. */
export function refuseAltp2m(r: PassthroughRequest): LibxlRefusal | null {
  const altp2m = r.altp2m !== 'disabled' || (r.type === 'hvm' && r.legacyAltp2mhvm);
  if (r.type === 'pv' || !altp2m) return null;
  if (r.nestedhvm) return refuse(libxlAt.nestedWithAltp2m, 'nestedhvm and altp2mhvm cannot be used together');
  return podEnabled(r) ? refuse(libxlAt.podWithAltp2m, 'Cannot enable PoD and ALTP2M at the same time') : null;
}

/** The whole section: the first refusal in libxl's order, or what was chosen. */
export function resolvePassthrough(r: PassthroughRequest): PassthroughChoice | LibxlRefusal {
  const choice = choosePassthrough(r);
  return choice.ok ? (refuseAltp2m(r) ?? choice) : choice;
}
