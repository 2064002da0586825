import { describe, expect, it } from 'vitest';
import { policies } from '../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import type { HostConfig, IommuUnitConfig } from '../host-config.ts';
import { sharing, sharingMistake } from './sharing.ts';

const [unit] = smallConfig().units as [IommuUnitConfig];
const host = (rest: Partial<HostConfig>): HostConfig =>
  smallConfig({ policies: policies({ iommuTables: 'auto' }), ...rest });

describe('sharing of tables', () => {
  it('follows from the page sizes: every size of EPT must be one of every unit', () => {
    expect(sharing(host({})).shared).toBe(true);
    expect(sharing(host({ units: [unit, { ...unit, id: 1, superpage1g: false }] })).shared).toBe(false);
    expect(
      sharing(host({ units: [{ ...unit, superpage1g: false }], ept: { superpage2m: true, superpage1g: false } }))
        .shared,
    ).toBe(true);
    expect(sharing(host({ units: [{ ...unit, superpage2m: false, superpage1g: false }] })).reason).toBe(
      'EPT maps by 2M and IOMMU unit 0 cannot',
    );
  });

  it('needs HAP and an IOMMU, and ends where the operator forbids superpages', () => {
    expect(sharing(host({ hap: false })).shared).toBe(false);
    expect(sharing(host({ iommuEnabled: false })).shared).toBe(false);
    expect(sharing(host({ policies: policies({ iommuTables: 'auto', iommuSuperpages: 'off' }) })).shared).toBe(false);
  });

  it('is a mistake of the operator where it is wanted and cannot be', () => {
    const wanted = policies({ iommuTables: 'shared' });
    expect(sharingMistake(host({ policies: wanted }))).toBeNull();
    expect(sharingMistake(host({ policies: wanted, units: [{ ...unit, superpage1g: false }] }))).toBe(
      'EPT maps by 1G and IOMMU unit 0 cannot',
    );
    expect(sharingMistake(host({ units: [{ ...unit, superpage1g: false }] }))).toBeNull();
  });
});
