// What `hostloom explain` knows beside a fault line: a machine, and the layout that a guest would get on it, as the facts that the
// causes look at. Owns this translation; the layout is guest-layout.ts's, the causes are formats'.
import type {
  FaultContext,
  ReservedRange as FaultRange,
  GuestFacts,
  GuestRegion,
} from '#formats/fault-line/fault-context';
import { formatSbdf, parseSbdf } from '#model/frames/addresses';
import { E820_RAM } from '#model/toolstack/e820';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { type GuestLayout, guestLayoutOf } from './guest-layout.ts';
import { covers, isSingle, type Machine, type ReservedRange } from './machine.ts';
import { planningView } from './planning-host.ts';

const KIB_PER_MIB = 1024;

export function faultContextOf(machine: Machine, config: GuestConfig | null): FaultContext {
  return {
    map: machine.mapKnown ? machine.firmwareMap : [],
    reserved: machine.ranges.map(faultRange),
    names: new Map(machine.host.devices.map(({ sbdf, name }) => [formatSbdf(sbdf), name])),
    guest: config === null ? null : guestFacts(config, addressesOf(config, machine)),
  };
}

/** A guest without a machine: what it starts with and which devices it has; where its memory lies depends on the host. */
export const faultContextOfGuest = (config: GuestConfig): FaultContext => ({
  map: [],
  reserved: [],
  names: new Map(),
  guest: guestFacts(config, null),
});

/** Where things lie depends on what the guest may grow to, so a guest whose populate-on-demand is refused today has its addresses. */
function addressesOf(config: GuestConfig, machine: Machine): GuestLayout {
  const { host } = planningView(machine);
  const layout = guestLayoutOf(host, config);
  if (layout.refusal === null || config.maxMemkb === null) return layout;
  const whole = guestLayoutOf(host, { ...config, targetMemkb: config.maxMemkb });
  return whole.refusal === null ? whole : layout;
}

function faultRange(range: ReservedRange): FaultRange {
  return {
    base: range.start,
    limit: range.end,
    devices: range.scopes.map(({ first, last }) =>
      isSingle({ first, last, text: '' }) ? formatSbdf(first) : `${formatSbdf(first)} to ${formatSbdf(last)}`,
    ),
    covers: (text) => {
      const sbdf = parseSbdf(text);
      return sbdf !== null && covers(range, sbdf);
    },
    place: `${range.kind} (${range.place})`,
  };
}

function guestFacts(config: GuestConfig, layout: GuestLayout | null): GuestFacts {
  const { targetMemkb, maxMemkb, type } = config;
  const demand = type === 'pv' || targetMemkb === null || maxMemkb === null ? 0 : maxMemkb - targetMemkb;
  return {
    name: config.name,
    podMib: Math.max(0, demand) / KIB_PER_MIB,
    devices: config.pci.map((pci) => formatSbdf(pciSbdf(pci))),
    regions: layout === null || layout.refusal !== null ? null : regionsOf(layout),
    refusal: layout?.refusal?.message ?? null,
  };
}

function regionsOf({ e820, rdms, bars }: GuestLayout): GuestRegion[] {
  const regions: GuestRegion[] = [];
  const add = (start: number, size: number, what: string, isRam = false): void => {
    regions.push({ start, end: start + size - 1, what, isRam });
  };
  for (const { addr, size, type } of e820) {
    const isRam = type === E820_RAM;
    add(addr, size, isRam ? 'RAM' : `reserved in its E820 (type ${type})`, isRam);
  }
  for (const { start, size } of rdms) add(start, size, 'reserved device memory (RMRR)');
  for (const { sbdf, guestSlot, index, address, size, isIo } of bars) {
    if (address === null || isIo) continue;
    const whose = sbdf === null ? 'an emulated device' : formatSbdf(sbdf);
    add(address, size, `BAR ${index} of ${whose} (guest slot ${guestSlot})`);
  }
  return regions;
}
