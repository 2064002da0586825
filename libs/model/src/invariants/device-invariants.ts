// State invariants of assigned and quarantined devices: context entries, domain ids, reserved regions.
import { DOMID_IO, formatSbdf } from '../frames/addresses.ts';
import { contextDid, contextPresent, contextRoot } from '../iommu/context-entry.ts';
import { identityMaps } from '../iommu/identity-mapping.ts';
import { quarantineDomid } from '../iommu/quarantine.ts';
import { regionsOf } from '../iommu/regions-of.ts';
import { kindOf } from '../iommu/requesters.ts';
import { domidOfDid } from '../iommu/vtd/domain-ids.ts';
import { walkTables } from '../iommu/walk.ts';
import { slotFrame } from '../p2m/entry.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const WRITE = 2;

/** Every id under which a device sends requests leads to its owner's tables, and that owner has a domain id there. */
export function allRequesterIdsShareOneOwner({ h }: Survey): Finding[] {
  const { iommu } = h;
  const found: Finding[] = [];
  for (const [device, config] of h.config.devices.entries()) {
    const kind = kindOf(config);
    if ((kind !== 'pcie' && kind !== 'pci') || iommu.read(device, 'broken') !== 0 || !h.config.iommuEnabled) continue;
    const owner = iommu.ownerOf(device);
    const expected = owner === DOMID_IO ? quarantineDomid(device) : owner;
    for (const fn of iommu.requesters.functions(device)) {
      const entry = iommu.contexts[fn] as number;
      const held = contextPresent(entry) ? domidOfDid(iommu.unitOf(device), contextDid(entry)) : -1;
      const mayBeAbsent = owner < 0 || owner === DOMID_IO;
      if (held === expected || (held < 0 && mayBeAbsent && !contextPresent(entry))) continue;
      const id = formatSbdf(iommu.requesters.at(fn).sbdf);
      found.push({
        text: `${formatSbdf(config.sbdf)} belongs to d${owner}, and the context of ${id} leads to ${held < 0 ? 'nobody' : `d${held}`}`,
        evidence: { sbdf: config.sbdf, requester: iommu.requesters.at(fn).sbdf, owner, held },
      });
    }
  }
  return found;
}

/** A domain has each reserved region once per device of its own that the region names; dom0 keeps what it once had. */
export function reservedRegionCountsMatchDevices({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  for (const d of h.allDomains()) {
    if (d.isHardware || d.dying || d.crashed) continue;
    const wanted = new Map<number, number>();
    for (const device of h.config.devices.keys()) {
      if (h.iommu.ownerOf(device) !== d.domid) continue;
      for (const { startPfn } of regionsOf(h, device)) wanted.set(startPfn, (wanted.get(startPfn) ?? 0) + 1);
    }
    for (const { first, count } of identityMaps(d)) {
      if (wanted.get(first) !== count) found.push(miscounted(d.domid, first, count, wanted.get(first) ?? 0));
      wanted.delete(first);
    }
    for (const [first, count] of wanted) found.push(miscounted(d.domid, first, 0, count));
  }
  return found;
}

const miscounted = (domid: number, first: number, count: number, devices: number): Finding => ({
  text: `d${domid} holds the reserved region at ${first.toString(16)} ${count} times, for ${devices} devices`,
  evidence: { domid, first, count, devices },
});

/** Firmware goes on using them whoever owns the device. */
export function quarantinedDeviceKeepsItsReservedPages({ h }: Survey): Finding[] {
  const { iommu } = h;
  const found: Finding[] = [];
  for (const [device, { sbdf }] of h.config.devices.entries()) {
    if (iommu.ownerOf(device) !== DOMID_IO || h.config.quarantine === 'none') continue;
    const entry = iommu.contexts[device] as number;
    const { levels } = iommu.unitOf(device).config;
    for (const { startPfn, endPfn } of regionsOf(h, device)) {
      for (let pfn = startPfn; pfn <= endPfn; pfn++) {
        const leaf = contextPresent(entry) ? walkTables(h.tables.slots, contextRoot(entry), pfn, WRITE, levels) : -1;
        if (leaf >= 0 && slotFrame(leaf) === pfn) continue;
        const text = `${formatSbdf(sbdf)} is quarantined and cannot reach its reserved page ${pfn.toString(16)}`;
        found.push({ text, evidence: { sbdf, pfn } });
        break;
      }
    }
  }
  return found;
}
