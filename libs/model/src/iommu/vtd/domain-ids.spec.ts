import { describe, expect, it } from 'vitest';
import { bootWithDom0, deviceConfig, ioDomain, ownFrames, policies } from '../../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../../test-support/p2m-fixture.ts';
import { DOMID_IO, type Sbdf, sbdf } from '../../frames/addresses.ts';
import type { IommuUnitConfig } from '../../host-config.ts';
import { errno } from '../../hypercall/errno.ts';
import { checkInvariants } from '../../invariants/check.ts';
import { assignDevice, deassignDevice } from '../assign.ts';
import { DmaThread } from '../dma.ts';
import { IOMMUF_readable, IOMMUF_writable } from '../flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap } from '../iommu.ts';
import type { Unit } from '../iommu-state.ts';
import { didOf, domidOfDid } from './domain-ids.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
const device = (n: number): Sbdf => sbdf(0, 4, n, 0);

/** A unit with 16 domain ids, and 20 devices behind it. */
function small(rest: Partial<IommuUnitConfig> = {}) {
  const [unit] = smallConfig().units;
  const fixture = bootWithDom0({
    policies: policies(),
    maxDomains: 24,
    units: [{ ...(unit as IommuUnitConfig), domainIds: 16, ...rest }], // the small host has one unit
    devices: Array.from({ length: 20 }, (_, n) => deviceConfig(device(n), `device ${n}`)),
  });
  return { ...fixture, unit: fixture.h.iommu.units[0] as Unit, dma: new DmaThread(fixture.h, 0) };
}

describe('a unit with few domain ids', () => {
  it('gives each domain one of its own while it has a device there; none left is -EBUSY, without side effect', () => {
    const { h, unit, log } = small();
    expect(didOf(unit, 0)).toBe(0);
    const guests = Array.from({ length: 16 }, (_, n) => ioDomain(h, 100 + n, 40));
    for (const [n, d] of guests.slice(0, 15).entries()) expect(assignDevice(h, d, device(n), 0)).toBe(0);
    expect(guests.slice(0, 15).map((d) => didOf(unit, d.domid))).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    ]);
    expect(domidOfDid(unit, 3)).toBe(102);
    const last = guests[15] as (typeof guests)[number];
    expect(assignDevice(h, last, device(15), 0)).toBe(-errno.EBUSY);
    expect(log.lines).toContain('[VT-D]IOMMU: no free domain id');
    expect(h.iommu.ownerOf(15)).toBe(0);
    // A second device of a known domain needs no other id; a quarantined one without tables needs none at all.
    expect(assignDevice(h, guests[0] as typeof last, device(15), 0)).toBe(0);
    expect(deassignDevice(h, guests[2] as typeof last, device(2))).toBe(0);
    expect(didOf(unit, 102)).toBe(-1);
    expect(assignDevice(h, last, device(16), 0)).toBe(0);
    expect(didOf(unit, 115)).toBe(3);
    expect(checkInvariants(h)).toEqual([]);
  });

  it('keeps domains apart: an id that changed hands shows nothing of its last user', () => {
    const { h, dma, log } = small();
    const [a, b] = [ioDomain(h, 1), ioDomain(h, 2)] as const;
    ownFrames(h, a, 0x1000, 8);
    ownFrames(h, b, 0x2000, 8);
    iommuLegacyMap(h, a, 5, 0x1000, 1, RW);
    iommuLegacyMap(h, b, 5, 0x2000, 1, RW);
    expect(assignDevice(h, a, device(0), 0)).toBe(0);
    expect(dma.transaction(device(0), 5, 'w', 1)).toBe(0);
    expect(deassignDevice(h, a, device(0))).toBe(0);
    expect(assignDevice(h, b, device(1), 0)).toBe(0);
    expect(dma.transaction(device(1), 5, 'w', 2)).toBe(0);
    expect([h.frames.tag[0x1000], h.frames.tag[0x2000]]).toEqual([1, 2]);
    iommuLegacyUnmap(h, b, 5, 1);
    expect(dma.transaction(device(1), 5, 'w', 3)).toBe(5);
    expect(log.violations).toEqual([]);
  });

  it('that caches what is absent never gives id 0 away', () => {
    const { unit } = small({ cachingMode: true });
    expect([didOf(unit, 0), domidOfDid(unit, 0)]).toEqual([1, -1]);
  });

  it('needs an id for a quarantined device with tables of its own', () => {
    const { h, unit } = small();
    const d = ioDomain(h, 1);
    expect(assignDevice(h, d, device(0), 0)).toBe(0);
    h.iommu.quarantineRoots[0] = d.r.iommuRoot;
    expect(deassignDevice(h, d, device(0))).toBe(0);
    expect([didOf(unit, 1), didOf(unit, 0x8000)]).toEqual([-1, 2]);
    expect(deassignDevice(h, DOMID_IO, device(0))).toBe(0);
    expect(didOf(unit, 0x8000)).toBe(-1);
  });
});

it('a unit with 65536 ids uses the domain’s number, its complement where absence is cached', () => {
  expect(didOf(small({ domainIds: 65_536 }).unit, 7)).toBe(7);
  expect(didOf(small({ domainIds: 65_536, cachingMode: true }).unit, 7)).toBe(0xfff8);
});
