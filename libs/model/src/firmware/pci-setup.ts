// Places every BAR of the guest's bus: the size of the low MMIO window, RAM moved out of its way, the order of placing,
// and what goes above 4 GiB. As hvmloader's pci_setup. Memory is changed only through the firmware's port; the bus is
// pci-bus.ts. Two of its habits matter: a window enlarged by mmio_hole_size relocates RAM even where relocation is
// disabled, and a skipped reserved region's gap is lost.

import {
  alignDown,
  alignUp,
  E820_RESERVED,
  type E820Entry,
  FOUR_GIB,
  GIB,
  HVM_BELOW_4G_MMIO_START,
  overlaps,
} from '../toolstack/e820.ts';
import { parseLong } from '../toolstack/long.ts';
import { adjustMemoryMap } from './adjust-memory-map.ts';
import { IGD_OPREGION_PAGES } from './build-e820.ts';
import type { HoleAllocators } from './hole-allocators.ts';
import {
  assertion,
  bug,
  type FirmwareMemory,
  type HvmInfo,
  lowMemEnd,
  PAGE,
  PAGE_SHIFT,
  RESERVED_MEMBASE,
} from './memory-map-setup.ts';
import {
  type BarRegister,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PciConfig,
  type PciFunction,
} from './pci-bus.ts';

/** 64-bit BARs larger than this go above 4 GiB unconditionally and do not count for the low window. */
const BAR_RELOC_THRESHOLD = GIB;
/** Most pages one relocation moves (the size field has 16 bits). */
const MAX_RELOCATION = 65535;
const PCI_ISA_DEVFN = 8;
/** IRQs of the four PCI-ISA links. */
const LINK_IRQS = [5, 10, 11, 5] as const;
const ISA_ACPI_IRQ = 9;
const IO_START = 0xc000;
const IO_END = 0x10000;
const FIRST_HIGH_PFN = 0x100000;

export type VirtualVga = 'none' | 'cirrus' | 'std' | 'pt';

/** Xenstore keys as hvmloader reads them; null where absent. */
export interface PciSettings {
  readonly physBits: number;
  /** hvmloader/allow-memory-relocate; libxl always writes "0". */
  readonly allowMemoryRelocate: string | null;
  /** hvmloader/pci/xen-platform-pci-bar-uc */
  readonly xenPlatformPciBarUc: string | null;
  /** platform/mmio_hole_size, bytes. */
  readonly mmioHoleSize: string | null;
}

export interface PciSetupEnv {
  readonly info: HvmInfo;
  readonly memory: FirmwareMemory;
  readonly allocators: HoleAllocators;
  readonly settings: PciSettings;
  readonly functions: readonly PciFunction[];
  readonly print: (line: string) => void;
}

export interface PciSetupResult {
  readonly pciMemStart: number;
  readonly pciMemEnd: number;
  readonly pciHiMemStart: number;
  readonly pciHiMemEnd: number;
  readonly igdOpregionPfn: number;
  readonly virtualVga: VirtualVga;
  readonly devices: readonly PciConfig[];
}

interface ListedBar {
  readonly config: PciConfig;
  readonly register: BarRegister;
}

/** Everything the steps below share. */
class PciSetup {
  readonly env: PciSetupEnv;
  readonly configs: PciConfig[];
  readonly decode = new Map<PciConfig, number>();
  /** Largest first; equal sizes as found. */
  readonly bars: ListedBar[] = [];
  memStart = HVM_BELOW_4G_MMIO_START;
  memEnd = RESERVED_MEMBASE;
  hiMemStart = 0;
  mmioTotal = 0;
  bar64Relocate = false;
  virtualVga: VirtualVga = 'none';
  vga: PciConfig | null = null;
  igdOpregionPfn = 0;

  constructor(env: PciSetupEnv) {
    this.env = env;
    this.configs = [...env.functions].sort((a, b) => a.devfn - b.devfn).map((fn) => new PciConfig(fn));
  }

  addDecode(config: PciConfig, bits: number): void {
    this.decode.set(config, (this.decode.get(config) ?? 0) | bits);
  }
}

const hex = (n: number): string => n.toString(16);
/** hvmloader's 64-bit print: the upper half, then eight digits. */
const wide = (n: number): string => hex(Math.floor(n / 2 ** 32)) + hex(n % 2 ** 32).padStart(8, '0');
const flag = (text: string | null): boolean => text === null || parseLong(text, 0).value !== 0;

function barLine(config: PciConfig, register: BarRegister, rest: string): string {
  return `pci dev ${config.name} bar ${hex(register.reg)} size ${wide(register.size)}: ${rest}`;
}

function findVga(s: PciSetup, config: PciConfig): void {
  const { vendor, device } = config.fn;
  if (vendor === 0x1234 && device === 0x1111) s.virtualVga = 'std';
  else if (vendor === 0x1013 && device === 0xb8) s.virtualVga = 'cirrus';
  else if (s.virtualVga !== 'none') return;
  else {
    s.virtualVga = 'pt';
    if (vendor === 0x8086) s.igdOpregionPfn = s.env.allocators.holeAlloc(IGD_OPREGION_PAGES);
  }
  s.vga = config;
}

/** The platform device's BAR, when it is not to be uncached, sits at the very top of the low window. */
function placePlatformBar(s: PciSetup, config: PciConfig, register: BarRegister): boolean {
  const { size } = register;
  const at = alignDown(s.memEnd - size, size);
  if (register.is64bit || size > s.memEnd || at < s.memStart) {
    const what = register.is64bit
      ? `unexpected MMIO 64bit BAR${register.bar.index}`
      : `BAR${register.bar.index} size ${hex(size)} overflows low PCI hole`;
    s.env.print(`xen platform pci dev ${config.name} ${what}`);
    return false;
  }
  s.memEnd = at;
  register.address = at;
  s.addDecode(config, PCI_COMMAND_MEMORY);
  s.env.print(barLine(config, register, `0${hex(at + register.flags).padStart(8, '0')}`));
  return true;
}

function listBar(s: PciSetup, config: PciConfig, register: BarRegister): void {
  const smaller = s.bars.findIndex((other) => other.register.size < register.size);
  s.bars.splice(smaller < 0 ? s.bars.length : smaller, 0, { config, register });
  if (register.is64bit && register.size > BAR_RELOC_THRESHOLD) s.bar64Relocate = true;
  else if (!register.isIo) s.mmioTotal += register.size;
}

function routeInterrupt(s: PciSetup, config: PciConfig): void {
  const { intPin, devfn } = config.fn;
  if (intPin === 0) return;
  const irq = LINK_IRQS[(intPin - 1 + (devfn >> 3)) & 3] ?? 0;
  config.intLine = irq;
  s.env.print(`pci dev ${config.name} INT${String.fromCharCode(64 + intPin)}->IRQ${irq}`);
}

function scanFunction(s: PciSetup, config: PciConfig, platformUncached: boolean): void {
  const { vendor, device, devfn, classCode } = config.fn;
  if (devfn === PCI_ISA_DEVFN && !(vendor === 0x8086 && device === 0x7000)) {
    throw assertion('(devfn != PCI_ISA_DEVFN) || ((vendor_id == 0x8086) && (device_id == 0x7000))', 'pci.c:170');
  }
  if (classCode === 0x0300) findVga(s, config);
  if (classCode === 0x0680) {
    // A foreign device of this class, passed through, kills the guest here.
    if (!(vendor === 0x8086 && device === 0x7113)) {
      throw assertion('(vendor_id == 0x8086) && (device_id == 0x7113)', 'pci.c:206');
    }
    config.intLine = ISA_ACPI_IRQ;
  }
  // No decoding while BARs are half written.
  config.command &= ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
  const platform = vendor === 0x5853 && (device === 1 || device === 2) && !platformUncached;
  for (const register of config.sizedRegisters()) {
    if (platform && !register.isIo && placePlatformBar(s, config, register)) continue;
    listBar(s, config, register);
  }
  routeInterrupt(s, config);
  s.addDecode(config, PCI_COMMAND_MASTER);
}

const reserved = (info: HvmInfo): E820Entry[] => info.memoryMap.filter((e) => e.type === E820_RESERVED);

/** Doubles the window (F, E, C, 8 × 2^28) while it is too small and allowed, then makes room for RMRRs in it if it can. */
function growWindow(s: PciSetup, relocateAllowed: boolean): void {
  const { info } = s.env;
  const doubled = (): number => (s.memStart << 1) >>> 0;
  while (
    s.mmioTotal > s.memEnd - s.memStart &&
    doubled() !== 0 &&
    (relocateAllowed || doubled() >>> PAGE_SHIFT >= info.lowMemPgend)
  ) {
    s.memStart = doubled();
  }
  const lowEnd = lowMemEnd(info);
  if (s.memStart <= lowEnd) return;
  if (reserved(info).some((e) => overlaps(s.memStart, s.memEnd - s.memStart, e.addr, e.size))) s.memStart = lowEnd;
}

function sizeWindow(s: PciSetup, relocateAllowed: boolean): void {
  const { settings, print } = s.env;
  const hole = settings.mmioHoleSize === null ? 0 : parseLong(settings.mmioHoleSize, 0).value;
  if (hole === 0) {
    growWindow(s, relocateAllowed);
  } else {
    const ramLimit = hole < 0 || hole > FOUR_GIB ? Number.POSITIVE_INFINITY : FOUR_GIB - hole; // unsigned: wraps to huge
    if (ramLimit > HVM_BELOW_4G_MMIO_START) {
      const shown = Number.isFinite(ramLimit) ? wide(ramLimit) : 'ffffffffffffffff';
      print(`max_ram_below_4g=0x${shown} too big for mmio_hole_size=0x${wide(Math.abs(hole))} has been ignored.`);
    } else {
      s.memStart = ramLimit;
      print(`pci_mem_start=0x${hex(ramLimit)} (was 0xf0000000) for mmio_hole_size=0x${hex(hole % FOUR_GIB)}`);
    }
  }
  if (s.mmioTotal > s.memEnd - s.memStart || s.bar64Relocate) {
    print('Low MMIO hole not large enough for all devices, relocating some BARs to 64-bit');
    s.bar64Relocate = true;
  }
}

/** Moves RAM that the window now covers to above 4 GiB, top chunk first; also where relocation is not allowed. */
function relocateRam(s: PciSetup): void {
  const { info, memory, print } = s.env;
  const firstPfn = s.memStart >>> PAGE_SHIFT;
  while (firstPfn < info.lowMemPgend) {
    const pages = Math.min(info.lowMemPgend - firstPfn, MAX_RELOCATION);
    if (info.highMemPgend === 0) info.highMemPgend = FIRST_HIGH_PFN;
    info.lowMemPgend -= pages;
    const [from, to] = [info.lowMemPgend * PAGE, info.highMemPgend * PAGE];
    print(`Relocating 0x${hex(pages)} pages from ${wide(from)} to ${wide(to)} for lowmem MMIO hole`);
    if (!memory.relocate(info.lowMemPgend, info.highMemPgend, pages)) throw bug('pci.c:445');
    info.highMemPgend += pages;
  }
  adjustMemoryMap(info);
}

interface Window {
  base: number;
  readonly max: number;
}

/** Past every reserved region below 4 GiB that the BAR would lie on, taking the lowest-ending one each time. */
function skipReserved(info: HvmInfo, start: number, size: number): number {
  let base = start;
  for (;;) {
    const from = base % FOUR_GIB; // a 32-bit parameter
    let next: E820Entry | null = null;
    let lowestEnd = FOUR_GIB;
    for (const entry of reserved(info)) {
      const end = entry.addr + entry.size;
      if (end > from && end <= lowestEnd) {
        next = entry;
        lowestEnd = end;
      }
    }
    if (next === null || !overlaps(base, size, next.addr, next.size)) return base;
    base = alignUp(lowestEnd, size);
  }
}

function placeBar(s: PciSetup, bar: ListedBar, low: Window, high: Window, io: Window): void {
  const { config, register } = bar;
  const { size } = register;
  const using64 =
    register.is64bit && s.bar64Relocate && (s.mmioTotal > low.max - low.base || size > BAR_RELOC_THRESHOLD);
  let window = io;
  if (!register.isIo) {
    window = using64 ? high : low;
    if (using64) {
      high.base = alignUp(high.base, size);
      if (s.hiMemStart === 0) s.hiMemStart = high.base;
    }
    if (size <= BAR_RELOC_THRESHOLD) s.mmioTotal -= size;
  }
  let base = alignUp(window.base, size);
  if (window === low) base = skipReserved(s.env.info, base, size);
  if (base + size > window.max) {
    s.env.print(barLine(config, register, 'no space for resource!'));
    return;
  }
  window.base = base + size;
  register.address = base;
  s.env.print(barLine(config, register, wide(base + register.flags)));
  s.addDecode(config, register.isIo ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
}

function highWindow(s: PciSetup): Window {
  const { info, settings, print } = s.env;
  const end = info.highMemPgend * PAGE;
  const base = Math.max(end, FOUR_GIB);
  if (end < FOUR_GIB && end !== 0) {
    print(`WARNING: hvm_info->high_mem_pgend ${hex(info.highMemPgend)} does not point into high memory!`);
  }
  print(`${info.highMemPgend ? '' : 'No '}RAM in high memory; setting high_mem resource base to ${wide(base)}`);
  return { base, max: 2 ** settings.physBits };
}

/** End of the high window: as coarsely aligned as its start, so that few MTRRs cover it. */
function highEnd(start: number, used: number): number {
  if (start === 0) return 0;
  let unit = 1;
  while (start % (unit * 2) === 0) unit *= 2;
  return alignUp(used, unit);
}

/** Runs pci_setup on `env`: programs the bus, may change the guest's memory. Throws FirmwareCrash where hvmloader dies. */
export function pciSetup(env: PciSetupEnv): PciSetupResult {
  const s = new PciSetup(env);
  const relocateAllowed = flag(env.settings.allowMemoryRelocate);
  const platformUncached = flag(env.settings.xenPlatformPciBarUc);
  env.print(`Relocating guest memory for lowmem MMIO space ${relocateAllowed ? 'enabled' : 'disabled'}`);
  env.print(`Xen platform PCI device BAR MTRR cache attribute set to ${platformUncached ? 'UC' : 'WB'}`);
  LINK_IRQS.forEach((irq, link) => {
    env.print(`PCI-ISA link ${link} routed to IRQ${irq}`);
  });
  for (const config of s.configs) scanFunction(s, config, platformUncached);

  sizeWindow(s, relocateAllowed);
  relocateRam(s);
  const high = highWindow(s);
  const low = { base: s.memStart, max: s.memEnd };
  const io = { base: IO_START, max: IO_END };
  for (const bar of s.bars) placeBar(s, bar, low, high, io);

  if (s.vga !== null) s.addDecode(s.vga, PCI_COMMAND_IO); // VGA registers are I/O ports, BAR or not
  for (const [config, bits] of s.decode) config.command |= bits;
  return {
    pciMemStart: s.memStart,
    pciMemEnd: s.memEnd,
    pciHiMemStart: s.hiMemStart,
    pciHiMemEnd: highEnd(s.hiMemStart, high.base),
    igdOpregionPfn: s.igdOpregionPfn,
    virtualVga: s.virtualVga,
    devices: s.configs,
  };
}
