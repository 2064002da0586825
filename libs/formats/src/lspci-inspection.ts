// An lspci listing as `hostloom inspect lspci` shows it: one object, and one table that a person reads. Owns these two forms.
import { isDisplay, type Lspci, type LspciDevice } from './lspci.ts';
import { sizeText } from './memory-map-log/inspection.ts';

/** What a listing does not say is left out. */
function deviceObject(device: LspciDevice) {
  const { bdf, description, bars, iommuGroup, bus, windows, rom, express, ats, resizableBar, driver } = device;
  return {
    bdf,
    desc: description,
    bars,
    ...(iommuGroup !== null && { iommu_group: iommuGroup }),
    ...(bus && { bus }),
    ...(windows.length > 0 && { windows }),
    ...(rom && { rom }),
    ...(express !== null && { express }),
    ...(ats && { ats }),
    ...(resizableBar && { has_rebar: true }),
    ...(driver !== null && { driver }),
  };
}

export const lspciObject = ({ devices }: Lspci) => ({
  gpus: devices.filter(isDisplay).map(deviceObject),
  devices: devices.map(deviceObject),
});

export function lspciText({ devices }: Lspci): string {
  const groups = new Map<number, number>();
  for (const { iommuGroup } of devices) {
    if (iommuGroup !== null) groups.set(iommuGroup, (groups.get(iommuGroup) ?? 0) + 1);
  }
  const summary = `${devices.length} devices, ${groups.size === 0 ? 'no IOMMU groups shown' : `${groups.size} IOMMU groups`}`;
  return [summary, ...devices.flatMap((device) => deviceLines(device, groups))].join('\n');
}

function deviceLines(device: LspciDevice, groups: ReadonlyMap<number, number>): string[] {
  const { bdf, description, bars, rom, bus, windows, iommuGroup, groupInferred, driver } = device;
  const group =
    iommuGroup === null
      ? ''
      : `, group ${iommuGroup}${groups.get(iommuGroup) === 1 ? '' : ' (shared)'}${groupInferred ? ' (as its slot)' : ''}`;
  const lines = [`${bdf}  ${description}`, `    driver ${driver ?? 'none shown'}${group}${capabilityText(device)}`];
  if (bus !== null) {
    const passed = windows.length === 0 ? '' : `, memory ${windows.join(', ')}`;
    lines.push(`    bridge: bus ${bus.primary} → ${bus.secondary}-${bus.subordinate}${passed}`);
  }
  for (const { region, addr, kind, flags, size } of bars) {
    const name = region === null ? 'BAR  ' : `BAR ${region}`;
    const length = size === null ? 'size not shown' : sizeText(size);
    lines.push(`    ${name}  ${addr.padStart(12)}  ${length.padStart(8)}  ${kind}${flags === '' ? '' : ` ${flags}`}`);
  }
  if (rom !== null)
    lines.push(`    ROM    ${rom.addr.padStart(12)}  ${(rom.size === null ? '?' : sizeText(rom.size)).padStart(8)}`);
  return lines;
}

function capabilityText({ express, ats, sriov, resizableBar, flReset }: LspciDevice): string {
  const words = [express, ats && 'ATS', sriov && 'SR-IOV', resizableBar && 'resizable BAR'];
  if (flReset !== null) words.push(flReset ? 'FLR' : 'no FLR');
  const shown = words.filter((word) => typeof word === 'string');
  return shown.length === 0 ? '' : `, ${shown.join(', ')}`;
}
