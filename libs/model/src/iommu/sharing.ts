// Whether devices walk the CPU's own tables (EPT) or separate ones. Sharing needs every unit to understand every leaf size
// that EPT uses (as Xen's vtd_ept_page_compatible); it is no question of CPU models.
import type { HostConfig } from '../host-config.ts';

export interface Sharing {
  readonly shared: boolean;
  /** Why, in one sentence. */
  readonly reason: string;
}

/** What stands against sharing on this host, or null. */
function obstacle(config: HostConfig): string | null {
  if (!config.iommuEnabled || config.units.length === 0) return 'the host has no IOMMU';
  if (!config.hap) return 'the host has no HAP, so there is no EPT to share';
  const superpages = config.policies.iommuSuperpages === 'on';
  for (const unit of config.units) {
    if (config.ept.superpage2m && !(unit.superpage2m && superpages)) return lacks(unit.id, '2M', superpages);
    if (config.ept.superpage1g && !(unit.superpage1g && superpages)) return lacks(unit.id, '1G', superpages);
  }
  return null;
}

const lacks = (unit: number, size: string, superpages: boolean): string =>
  superpages ? `EPT maps by ${size} and IOMMU unit ${unit} cannot` : `EPT maps by ${size} and iommu.superpages is off`;

/** The decision for HAP domains that do not refuse it themselves. */
export function sharing(config: HostConfig): Sharing {
  const { iommuTables } = config.policies;
  if (iommuTables === 'separate') return { shared: false, reason: 'the policy iommu.tables is separate' };
  const against = obstacle(config);
  if (against !== null) return { shared: false, reason: against };
  return { shared: true, reason: 'every IOMMU unit can map all page sizes that EPT uses' };
}

/** An operator's mistake: iommu.tables is `shared` where this host cannot share. Its reason, or null. */
export function sharingMistake(config: HostConfig): string | null {
  return config.policies.iommuTables === 'shared' ? obstacle(config) : null;
}
