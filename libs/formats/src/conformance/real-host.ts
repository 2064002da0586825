// The machine on which the guests of `conformance --real` were seen: an emulated PC whose firmware reserves one region for a
// network card at 00:05.0; a second card at 00:06.0 has none. Made as large as the guest needs. Owns the host, and the ports
// through which the toolstack's own code builds a guest on it.
import { InProcessHost } from '#model/boot/in-process-host';
import { sbdf } from '#model/frames/addresses';
import { capableUnit, type DeviceConfig, defaultPolicies, type HostConfig, tablePagesFor } from '#model/host-config';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { ToolstackPorts } from '#model/toolstack/ports';
import { MapXenstore } from '#model/toolstack/xenstore-map';

const PAGE = 4096;
const MIB = 2 ** 20;
const PAGES_PER_MIB = 256;
const FOUR_GIB_PFN = 0x100000;
/** Where low RAM ends and firmware's reserved area begins; the reserved region of the card lies in it. */
const LOW_RAM_END_PFN = 0x7ffdd;
const RESERVED_END_PFN = 0x80000;
const RMRR = { startPfn: 0x7fff0, endPfn: 0x7fff3 };
const DOM0_MIB = 64;
/** What dom0, page tables and Xen itself take beside a guest's memory. */
const OVERHEAD_MIB = 512;
const PHYS_BITS = 40;

const CARD_A = sbdf(0, 0, 5, 0);
const CARD_B = sbdf(0, 0, 6, 0);

/** An Intel 82574L. */
const card = (at: typeof CARD_A, base: number): DeviceConfig => ({
  sbdf: at,
  name: 'e1000e',
  vendor: 0x8086,
  device: 0x10d3,
  pciClass: 0x020000,
  unit: 0,
  upstreamBridge: null,
  bars: [
    { index: 0, kind: 'mem32', size: 0x20000, hostAddr: base },
    { index: 1, kind: 'mem32', size: 0x20000, hostAddr: base + 0x20000 },
    { index: 3, kind: 'mem32', size: 0x4000, hostAddr: base + 0x40000 },
  ],
});

const reserved = (start: number, end: number): MemoryMapEntry => ({ addr: start, size: end - start, type: 2 });

/** Firmware's ranges of such a machine; RAM fills the rest as far as there is any. */
const firmwareMap: readonly MemoryMapEntry[] = [
  reserved(0xa0000, 0x100000),
  reserved(LOW_RAM_END_PFN * PAGE, RESERVED_END_PFN * PAGE),
  reserved(0xb0000000, 0xc0000000),
  reserved(0xfed1c000, 0xfed20000),
  reserved(0xfeffc000, 0xff000000),
  reserved(0xfffc0000, 0x100000000),
];

function configFor(guestMib: number): HostConfig {
  const pages = (guestMib + DOM0_MIB + OVERHEAD_MIB) * PAGES_PER_MIB;
  const low = Math.min(pages, LOW_RAM_END_PFN);
  const high = pages - low;
  const frames = high > 0 ? FOUR_GIB_PFN + high : low;
  const ram = [
    { start: 0x100, end: low },
    { start: FOUR_GIB_PFN, end: FOUR_GIB_PFN + high },
  ].filter(({ start, end }) => end > start);
  return {
    name: 'emulated-pc',
    pcpus: 2,
    dmaThreads: 1,
    maxDomains: 4,
    frames,
    heapRanges: ram,
    memoryMap: [
      { addr: 0, size: 0xa0000, type: 1 as const },
      ...ram.map(({ start, end }) => ({ addr: start * PAGE, size: (end - start) * PAGE, type: 1 as const })),
      ...firmwareMap,
    ].sort((a, b) => a.addr - b.addr),
    hap: true,
    ept: { superpage2m: true, superpage1g: true },
    iommuEnabled: true,
    units: [capableUnit],
    quarantine: 'basic',
    devices: [card(CARD_A, 0xfea00000), card(CARD_B, 0xfea80000)],
    rmrrs: [{ ...RMRR, devices: [CARD_A] }],
    tablePages: tablePagesFor(pages),
    policies: defaultPolicies,
  };
}

export interface RealMachine {
  readonly host: InProcessHost;
  readonly ports: ToolstackPorts;
  readonly devices: readonly number[];
}

/** A machine with room for a guest of so many MiB. `memoryMap`: what firmware told of it, where that is known. */
export function bootRealMachine(guestMib: number, memoryMap: readonly MemoryMapEntry[] | null): RealMachine {
  const config = configFor(guestMib);
  const host = new InProcessHost(
    config,
    { memoryPages: DOM0_MIB * PAGES_PER_MIB, vcpus: 2 },
    { printk: () => {}, violation: ({ invariant, text }) => raise(`${invariant}: ${text}`) },
  );
  const port = host.port(0);
  const { info } = port.call({ op: 'physinfo' });
  if (!info) throw new Error('the host tells nothing of itself');
  const ports: ToolstackPorts = {
    port,
    xenstore: new MapXenstore(),
    devices: config.devices,
    caps: {
      hap: info.hap,
      shadow: false,
      hvmDirectio: info.iommu,
      iommuHapPtShare: info.hapPtShare,
      nodes: 1,
      onlineCpus: info.pcpus,
    },
    physBits: PHYS_BITS,
    memoryMap: memoryMap ?? config.memoryMap,
  };
  return { host, ports, devices: config.devices.map((device) => device.sbdf) };
}

function raise(text: string): never {
  throw new Error(text);
}

/** Whole MiB that hold so many KiB. */
export const mibOf = (kib: number): number => Math.ceil((kib * 1024) / MIB);
