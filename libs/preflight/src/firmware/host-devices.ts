// The devices of a machine from its lspci listing, and stand-ins for those that only firmware's tables name. Owns what a listing
// leaves out (class by name, numbers of BARs, an address where it shows none) and says what it filled in.
import type { BarKind, HostBar, HostDevice, HostRegion } from '#formats/host-file';
import { type Lspci, type LspciBar, type LspciDevice } from '#formats/lspci';
import { parseSbdf, type Sbdf } from '#model/frames/addresses';
import { bdfText, type DeviceFacts } from '../machine.ts';
import { type ByteRange, FOUR_GIB, MIB, overlap } from '../ranges.ts';
import { Bridges } from './bridges.ts';

const ROM_INDEX = 6;
const LAST_BAR = 5;
const LEAST_BAR = 16;
const LARGEST_BAR = 2 ** 44;
/** BARs without an address of their own: from here down, and above here. */
const LOW_PLACES_END = 0xfe000000;
const HIGH_PLACES = 2 ** 40;

/** Class codes of listings without numbers (`lspci -v`). */
const CLASSES: readonly (readonly [RegExp, number])[] = [
  [/^VGA compatible/, 0x030000],
  [/^3D controller/, 0x030200],
  [/^Display controller/, 0x038000],
  [/^PCI bridge/, 0x060400],
  [/^Host bridge/, 0x060000],
  [/^ISA bridge/, 0x060100],
  [/^Bridge/, 0x068000],
  [/^USB controller.*(?:xHCI|USB 3)/i, 0x0c0330],
  [/^USB controller.*(?:EHCI|USB 2|USB2)/i, 0x0c0320],
  [/^USB controller/, 0x0c0300],
  [/^Ethernet/, 0x020000],
  [/^Network/, 0x028000],
  [/^Non-Volatile memory/, 0x010802],
  [/^SATA/, 0x010601],
  [/^RAID/, 0x010400],
  [/^Audio device/, 0x040300],
  [/^Multimedia audio/, 0x040100],
  [/^SMBus/, 0x0c0500],
  [/^Serial bus/, 0x0c8000],
  [/^Communication/, 0x078000],
  [/^Signal processing/, 0x118000],
  [/^RAM memory/, 0x050000],
];

/** What stands at these addresses in nearly every Intel machine. */
const USUAL: ReadonlyMap<string, readonly [string, number]> = new Map([
  ['00:02.0', ['integrated graphics, by its address', 0x030000]],
  ['00:14.0', ['USB 3 controller, by its address', 0x0c0330]],
  ['00:1a.0', ['USB 2 controller, by its address', 0x0c0320]],
  ['00:1d.0', ['USB 2 controller, by its address', 0x0c0320]],
  ['00:1b.0', ['sound controller, by its address', 0x040300]],
  ['00:0e.0', ['volume management device, by its address', 0x010400]],
]);

/** What no listing tells. */
const ON_THE_BUS = {
  kind: null,
  secondaryBus: null,
  phantomStride: null,
  ats: false,
  physicalFunction: null,
  hotplug: false,
} as const;

export interface ListedDevices {
  readonly devices: readonly HostDevice[];
  readonly facts: ReadonlyMap<Sbdf, DeviceFacts>;
  /** Devices whose BARs had to be given an address. */
  readonly moved: readonly Sbdf[];
  /** The machine's host bridge is among them: the listing is not an excerpt. */
  readonly complete: boolean;
}

/** `iommu` of each device is left to the units. */
export function devicesOfListing(listing: Lspci, map: readonly HostRegion[]): ListedDevices {
  const bridges = new Bridges(listing.devices);
  const places = new BarPlaces(map);
  const facts = new Map<Sbdf, DeviceFacts>();
  const devices: HostDevice[] = [];
  for (const listed of listing.devices) {
    const sbdf = parseSbdf(listed.bdf);
    if (sbdf === null || facts.has(sbdf)) continue;
    const { iommuGroup, driver, flReset } = listed;
    facts.set(sbdf, { iommuGroup, driver, flr: flReset, guessed: false });
    const { vendor, device } = idsOf(listed);
    devices.push({
      sbdf,
      name: nameOf(listed),
      vendor,
      device,
      pciClass: classOf(listed),
      bars: barsOf(listed).map((bar) => places.place(sbdf, bar)),
      iommu: null,
      upstreamBridge: bridges.topmost(sbdf),
      hasFlr: flReset === true,
      ...ON_THE_BUS,
      kind: listed.express?.startsWith('PCI-Express to PCI') ? 'pcie-to-pci-bridge' : null,
      secondaryBus: listed.bus === null ? null : Number.parseInt(listed.bus.secondary, 16),
      ats: listed.ats,
    });
  }
  const complete = devices.some(({ sbdf, pciClass }) => sbdf % 65536 === 0 && pciClass >>> 8 === 0x0600);
  return { devices, facts, moved: places.moved, complete };
}

/** For a device that only firmware's table, or a guest's configuration, names. */
export function guessedDevice(sbdf: Sbdf, namedBy: string): HostDevice {
  const [usual, pciClass] = USUAL.get(bdfText(sbdf)) ?? [null, 0];
  return {
    sbdf,
    name: usual === null ? `named by ${namedBy}` : `${usual}`,
    vendor: 0,
    device: 0,
    pciClass,
    bars: [],
    iommu: null,
    upstreamBridge: null,
    hasFlr: false,
    ...ON_THE_BUS,
  };
}

export const GUESSED: DeviceFacts = { iommuGroup: null, driver: null, flr: null, guessed: true };

function idsOf({ ids }: LspciDevice): { vendor: number; device: number } {
  const [vendor = 0, device = 0] = (ids ?? '').split(':').map((id) => Number.parseInt(id, 16));
  return Number.isNaN(vendor) ? { vendor: 0, device: 0 } : { vendor, device };
}

function classOf({ classCode, className, description }: LspciDevice): number {
  const known = CLASSES.find(([pattern]) => pattern.test(`${className}: ${description}`))?.[1] ?? 0;
  if (classCode === null) return known;
  const interfaceCode = /\(prog-if ([0-9a-f]{2})/.exec(description)?.[1];
  const base = Number.parseInt(classCode, 16) * 256;
  if (interfaceCode !== undefined) return base + Number.parseInt(interfaceCode, 16);
  return known - (known % 256) === base ? known : base;
}

/** Without class, numbers and revision. */
function nameOf({ description, className }: LspciDevice): string {
  const after = description.slice(description.indexOf(': ') + 1).trim();
  const name = after
    .replace(/ \[[0-9a-f]{4}:[0-9a-f]{4}\].*$/, '')
    .replace(/ \((?:rev|prog-if) .*$/, '')
    .trim();
  return name === '' ? className || 'unnamed' : name;
}

type SizedBar = Omit<HostBar, 'hostAddr'> & { readonly listed: number | null };

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));

function barsOf(listed: LspciDevice): SizedBar[] {
  const bars: SizedBar[] = [];
  let next = 0;
  for (const bar of listed.bars) {
    const kind = kindOf(bar);
    const index = bar.region ?? next;
    const wide = kind.startsWith('mem64') ? 2 : 1;
    const { size } = bar;
    if (index < next || index + wide - 1 > LAST_BAR || size === null) continue;
    if (size < LEAST_BAR || size > LARGEST_BAR || !isPowerOfTwo(size)) continue;
    bars.push({ index, size, kind, listed: addressOf(bar.addr) });
    next = index + wide;
  }
  const { rom } = listed;
  if (rom !== null && rom.size !== null && rom.size >= 2048 && rom.size < FOUR_GIB && isPowerOfTwo(rom.size)) {
    bars.push({ index: ROM_INDEX, size: rom.size, kind: 'rom', listed: addressOf(rom.addr) });
  }
  return bars;
}

function kindOf({ kind, size }: LspciBar): BarKind {
  const prefetchable = kind.includes('prefetchable') && !kind.includes('non-prefetchable');
  const wide = kind.startsWith('64-bit') || (size !== null && size >= FOUR_GIB);
  if (wide) return prefetchable ? 'mem64p' : 'mem64';
  return prefetchable ? 'mem32p' : 'mem32';
}

function addressOf(text: string): number | null {
  const value = /^[0-9a-f]{1,13}$/i.test(text) ? Number.parseInt(text, 16) : 0;
  return value > 0 ? value : null;
}

/** Host addresses of BARs: as listed where that can be true, else a free place. */
class BarPlaces {
  readonly moved: Sbdf[] = [];
  readonly #ram: readonly ByteRange[];
  readonly #taken: ByteRange[] = [];
  #high = HIGH_PLACES;

  constructor(map: readonly HostRegion[]) {
    this.#ram = map.filter(({ type }) => type === 'usable');
  }

  place(sbdf: Sbdf, { listed, ...bar }: SizedBar): HostBar {
    const is64 = bar.kind.startsWith('mem64');
    if (listed !== null && listed % bar.size === 0 && this.#isFree(listed, bar.size, is64)) {
      return this.#take(bar, listed);
    }
    if (!this.moved.includes(sbdf)) this.moved.push(sbdf);
    return this.#take(bar, is64 ? this.#highPlace(bar.size) : this.#lowPlace(bar.size));
  }

  #take(bar: Omit<HostBar, 'hostAddr'>, hostAddr: number): HostBar {
    this.#taken.push({ start: hostAddr, end: hostAddr + bar.size - 1 });
    return { ...bar, hostAddr };
  }

  #isFree(start: number, size: number, is64: boolean): boolean {
    return start + size <= (is64 ? 2 ** 52 : FOUR_GIB) && this.#inTheWay(start, size) === null;
  }

  #inTheWay(start: number, size: number): ByteRange | null {
    const range = { start, end: start + size - 1 };
    return [...this.#ram, ...this.#taken].find((other) => overlap(range, other) !== null) ?? null;
  }

  #highPlace(size: number): number {
    let at = Math.ceil(this.#high / size) * size;
    for (let other = this.#inTheWay(at, size); other !== null; other = this.#inTheWay(at, size)) {
      at = Math.ceil((other.end + 1) / size) * size;
    }
    this.#high = at + size;
    return at;
  }

  /** From the top down; where nothing is free below 4 GiB some place is named, and the loader of the file will complain. */
  #lowPlace(size: number): number {
    let at = Math.floor((LOW_PLACES_END - size) / size) * size;
    for (let other = this.#inTheWay(at, size); other !== null && at >= MIB; other = this.#inTheWay(at, size)) {
      at = Math.floor((other.start - size) / size) * size;
    }
    return Math.max(at, 0);
  }
}
