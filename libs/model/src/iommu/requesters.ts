// Requester ids: the bus numbers that DMA requests carry, by which a unit finds a context entry. A device has its own, one
// per phantom function, and, for conventional PCI behind a bridge, the ids under which that bridge passes its requests on.
// Owns which ids there are and whose; what an entry holds is context-entry.ts. Derived from the host's description alone.
import { type Sbdf, sbdf } from '../frames/addresses.ts';
import type { DeviceConfig, HostConfig, PciKind } from '../host-config.ts';

const CLASS_HOST_BRIDGE = 0x0600;
const CLASS_PCI_BRIDGE = 0x0604;
const BUS_MASK = 0xff;
const SLOT_FUNCTIONS = 8;
const FUNCTION_MASK = SLOT_FUNCTIONS - 1;

/** As Xen's pdev_type. */
export function kindOf(device: DeviceConfig): PciKind {
  if (device.pciClass >>> 8 === CLASS_HOST_BRIDGE) return 'host-bridge';
  return device.kind ?? (device.pciClass >>> 8 === CLASS_PCI_BRIDGE ? 'pcie-bridge' : 'pcie');
}

const busOf = (address: Sbdf): number => (address >>> 8) & BUS_MASK;
const segmentOf = (address: Sbdf): number => Math.floor(address / 65536);

export interface Requester {
  readonly index: number;
  readonly sbdf: Sbdf;
  /** Index of the unit that its requests reach. */
  readonly unit: number;
  /** Index of the device that answers for it (itself, or the device of a phantom function); -1: no function has this id. */
  readonly device: number;
}

/** The ids of one device. */
interface DeviceIds {
  /** Its own, then its phantom functions'. */
  readonly functions: readonly number[];
  /** Conventional PCI: the topmost bridge's, then (secondary bus, 00.0) of one that leads to PCI Express. */
  readonly aliases: readonly number[];
  /** What its requests carry, in turn. */
  readonly used: readonly number[];
}

/** The secondary bus of the topmost bridge above a device. */
function secondaryBusOf(config: HostConfig, bridge: DeviceConfig | undefined, below: DeviceConfig): number {
  if (bridge?.secondaryBus !== undefined) return bridge.secondaryBus;
  const behind = config.devices.filter(({ upstreamBridge }) => upstreamBridge === below.upstreamBridge);
  return Math.min(...behind.map((device) => busOf(device.sbdf)));
}

export class Requesters {
  /** The first ones are the devices', in the order of the host's description. */
  readonly all: readonly Requester[];
  private readonly ids: readonly DeviceIds[];

  constructor(config: HostConfig) {
    const all: Requester[] = [];
    const known = new Map<string, number>();
    const add = (address: Sbdf, unit: number, device: number): number => {
      const key = `${unit}/${address}`;
      const index = known.get(key) ?? all.length;
      if (index === all.length) {
        known.set(key, index);
        all.push({ index, sbdf: address, unit, device });
      }
      return index;
    };
    const units = config.devices.map((device) => config.units.findIndex(({ id }) => id === device.unit));
    const indexOf = new Map(config.devices.map((device, index) => [device.sbdf, index]));
    for (const [index, device] of config.devices.entries()) add(device.sbdf, units[index] as number, index);
    this.ids = config.devices.map((device, index) => {
      const unit = units[index] as number;
      const functions = phantomIds(device).map((address) => add(address, unit, index));
      const { upstreamBridge } = device;
      if (kindOf(device) !== 'pci' || upstreamBridge === null) return { functions, aliases: [], used: functions };
      const bridge = config.devices[indexOf.get(upstreamBridge) ?? -1];
      const own = add(upstreamBridge, unit, indexOf.get(upstreamBridge) ?? -1);
      const bus = secondaryBusOf(config, bridge, device);
      if (!bridge || kindOf(bridge) !== 'pcie-to-pci-bridge') return { functions, aliases: [own], used: [own] };
      const passedOn = sbdf(segmentOf(device.sbdf), bus, 0, 0);
      const alias = add(passedOn, unit, indexOf.get(passedOn) ?? -1);
      return { functions, aliases: alias === index ? [own] : [own, alias], used: [alias] };
    });
    this.all = all;
  }

  static count(config: HostConfig): number {
    return new Requesters(config).all.length;
  }

  at(index: number): Requester {
    return this.all[index] as Requester; // callers got the index from here
  }
  functions(device: number): readonly number[] {
    return (this.ids[device] as DeviceIds).functions; // callers got the index from deviceIndex
  }
  aliases(device: number): readonly number[] {
    return (this.ids[device] as DeviceIds).aliases; // as above
  }
  /** The id of the device's `turn`-th request: it uses its phantom functions in turn. */
  used(device: number, turn: number): number {
    const { used } = this.ids[device] as DeviceIds; // as above
    return used.length === 1 ? (used[0] as number) : (used[turn % used.length] as number);
  }
}

/** Its own id, then every stride-th function up to the end of its slot. */
function phantomIds({ sbdf: own, phantomStride }: DeviceConfig): Sbdf[] {
  const ids = [own];
  if (phantomStride === undefined) return ids;
  const last = own + FUNCTION_MASK - (own & FUNCTION_MASK);
  for (let id = own + phantomStride; id <= last; id += phantomStride) ids.push(id as Sbdf);
  return ids;
}
