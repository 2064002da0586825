// What Xen makes of firmware's DMAR at boot: which reserved regions it keeps, what it adds to the memory map for them, and
// when it gives up on VT-d altogether (as acpi_parse_one_rmrr, register_one_rmrr, iommu_unity_region_ok). A pure function of
// the host's description, with the lines that `iommu=verbose` shows.
import { formatSbdf, PAGE_SIZE } from '../../frames/addresses.ts';
import type { HostConfig, RmrrConfig } from '../../host-config.ts';
import type { E820Type, MemoryMapEntry } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import { checkUserRegion, parseRmrrOption } from './user-rmrr.ts';

export interface BootedConfig {
  /** The host as Xen runs it. */
  readonly config: HostConfig;
  readonly lines: readonly string[];
}

const USABLE: E820Type = 1;
const RESERVED: E820Type = 2;

const hex = (n: number, digits = 1): string => n.toString(16).padStart(digits, '0');
const base = ({ startPfn }: RmrrConfig): number => startPfn * PAGE_SIZE;
const last = ({ endPfn }: RmrrConfig): number => (endPfn + 1) * PAGE_SIZE - 1;
const bounds = (region: RmrrConfig, gap = ','): string => `[${hex(base(region))}${gap}${hex(last(region))}]`;

/** Any type but RAM over a part of the page makes the page that type; RAM counts only when it covers the whole page. */
function pageKind(map: readonly MemoryMapEntry[], pfn: number): 'ram' | 'reserved' | 'unknown' {
  const from = pfn * PAGE_SIZE;
  const to = from + PAGE_SIZE;
  let ram = false;
  for (const { addr, size, type } of map) {
    if (addr >= to || addr + size <= from) continue;
    if (type !== USABLE) return 'reserved';
    ram ||= addr <= from && addr + size >= to;
  }
  return ram ? 'ram' : 'unknown';
}

function wholeIsReserved(map: readonly MemoryMapEntry[], from: number, to: number): boolean {
  let next = from;
  for (const { addr, size, type } of map.toSorted((a, b) => a.addr - b.addr)) {
    if (type === RESERVED && addr <= next) next = Math.max(next, addr + size);
  }
  return next > to;
}

/** One reading of the tables. */
class Parse {
  readonly lines: string[] = [];
  readonly kept: RmrrConfig[] = [];
  private map: MemoryMapEntry[];
  private readonly config: HostConfig;

  constructor(config: HostConfig) {
    this.config = config;
    this.map = [...config.memoryMap];
  }

  get memoryMap(): readonly MemoryMapEntry[] {
    return this.map.toSorted((a, b) => a.addr - b.addr);
  }

  /** 0, or the error that ends the parsing of the whole table. */
  firmwareRegion(region: RmrrConfig): number {
    this.lines.push('[VT-D]found ACPI_DMAR_RMRR:');
    const other = this.kept.find((one) => base(region) <= last(one) && base(one) <= last(region));
    if (other) {
      this.lines.push(`[VT-D]Overlapping RMRRs ${bounds(other)} and ${bounds(region)}`);
      return -errno.EEXIST;
    }
    if (region.startPfn <= region.endPfn && !this.reserve(region)) return -errno.EIO;
    for (const device of region.devices) this.lines.push(`[VT-D] endpoint: ${formatSbdf(device)}`);
    return this.register(region);
  }

  userRegion(region: RmrrConfig): void {
    const { accepted, line } = checkUserRegion(region, this.kept, this.config.frames);
    this.lines.push(line);
    if (accepted) this.register(region);
  }

  /** A region is worth keeping when one of its devices is there. */
  private register(region: RmrrConfig): number {
    const present = this.config.devices.filter(({ hotplug }) => !hotplug).map(({ sbdf }) => sbdf);
    for (const device of region.devices) {
      if (present.includes(device)) break;
      this.lines.push(
        `[VT-D] Non-existent device (${formatSbdf(device)}) is reported in RMRR ${bounds(region, ', ')}'s scope!`,
      );
    }
    if (!region.devices.some((device) => present.includes(device))) {
      this.lines.push(`[VT-D] Ignore RMRR ${bounds(region, ', ')} as no device under its scope is PCI discoverable!`);
      return 0;
    }
    if (region.startPfn > region.endPfn) {
      this.lines.push(`[VT-D] RMRR ${bounds(region, ', ')} is incorrect!`);
      return -errno.EFAULT;
    }
    this.lines.push(`[VT-D]  RMRR: [${hex(base(region), 8)},${hex(last(region), 8)}]`);
    this.kept.push(region);
    return 0;
  }

  /** The region's pages become reserved where the map knows nothing of them; false: one of them is RAM. */
  private reserve(region: RmrrConfig): boolean {
    if (wholeIsReserved(this.map, base(region), last(region))) return true;
    const frame = (pfn: number): string => `0x${hex(pfn, 3)}`;
    const range = `[${frame(region.startPfn)}, ${frame(region.endPfn)}]`;
    this.lines.push(`RMRR: ${range} is not (entirely) in reserved memory`);
    for (let pfn = region.startPfn; pfn <= region.endPfn; pfn++) {
      const kind = pageKind(this.map, pfn);
      if (kind === 'ram') {
        this.lines.push(`RMRR: page at ${frame(pfn)} can't be converted`);
        return false;
      }
      if (kind === 'unknown') this.addReserved(pfn * PAGE_SIZE);
    }
    return true;
  }

  private addReserved(addr: number): void {
    const before = this.map.findIndex((e) => e.type === RESERVED && e.addr + e.size === addr);
    const entry = this.map[before];
    if (entry) this.map[before] = { ...entry, size: entry.size + PAGE_SIZE };
    else this.map.push({ addr, size: PAGE_SIZE, type: RESERVED });
  }
}

/** The host as it runs after Xen has read its tables. */
export function parseDmar(config: HostConfig): BootedConfig {
  if (!config.iommuEnabled) return { config, lines: [] };
  const parse = new Parse(config);
  for (const region of config.rmrrs) {
    if (parse.firmwareRegion(region) === 0) continue;
    const lines = [...parse.lines, 'Failed to parse ACPI DMAR.  Disabling VT-d.'];
    return { config: { ...config, iommuEnabled: false, rmrrs: [] }, lines };
  }
  for (const region of parseRmrrOption(config.rmrrOption ?? '')) parse.userRegion(region);
  return { config: { ...config, rmrrs: parse.kept, memoryMap: parse.memoryMap }, lines: parse.lines };
}
