// What a guest would get on a host, without building it: its memory map, where each BAR goes, which regions are reserved, what
// is populated, or who refuses and in which words. Every number comes from the functions that the running toolstack and
// firmware use; this file owns their order (as xl create's) and decides nothing itself.
import { logText } from '#formats/xl-output';
import type { HvmloaderResult } from '#model/firmware/hvmloader';
import { ROM_INDEX } from '#model/firmware/pci-bus';
import { seabiosE820 } from '#model/firmware/seabios-e820';
import type { Sbdf } from '#model/frames/addresses';
import type { DeviceConfig } from '#model/host-config';
import { applyLibxlDefaults, type BuildInfo, type HostCaps } from '#model/toolstack/build-info';
import { type HvmLayout, planLayout, VGA_HOLE_PAGES } from '#model/toolstack/build-layout';
import { constructRdm, type RdmEntry, type RdmPlan, type RdmQuery } from '#model/toolstack/construct-rdm';
import { deviceModelMemory } from '#model/toolstack/device-model-memory';
import { E820_NVS, type E820Entry, NR_SPECIAL_PAGES, SPECIAL_PAGES_END_PFN } from '#model/toolstack/e820';
import { type GuestBus, guestBus, type PassedThrough } from '#model/toolstack/emulated-bus';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { type LibxlPlace, libxlAt, libxlError, libxlWarning, xlSays } from '#model/toolstack/libxl-log';
import { constructMemmap } from '#model/toolstack/memory-map';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { pvMemoryMap } from '#model/toolstack/pv-domain';
import { framesOf, pvhAcpiModules } from '#model/toolstack/pvh-acpi';
import { runFirmware } from '#model/toolstack/run-firmware';
import { PlanningPort } from './planning-port.ts';
import { type ByteRange, FOUR_GIB, KIB_PER_MIB, merged, PAGE } from './ranges.ts';

/** What the toolstack would ask a host for. */
export interface PlanningHost {
  readonly caps: HostCaps;
  readonly devices: readonly DeviceConfig[];
  /** XENMEM_reserved_device_memory_map. */
  readonly rdm: RdmQuery<Sbdf>;
  /** Devices that Xen assigns under the relaxed policy only: another one has the same reserved region. */
  readonly shared: ReadonlySet<Sbdf>;
  readonly map: readonly E820Entry[];
  readonly physBits: number;
}

export interface PlacedBar {
  /** null: a device that the device model emulates. */
  readonly sbdf: Sbdf | null;
  /** `DD:F` on the guest's bus 0. */
  readonly guestSlot: string;
  readonly index: number | 'rom';
  readonly size: number;
  readonly isIo: boolean;
  readonly is64bit: boolean;
  /** null: firmware found no room. */
  readonly address: number | null;
}

export interface Refusal {
  readonly by: 'libxl' | 'hvmloader';
  /** Its last word. */
  readonly message: string;
  /** All that is printed about it. */
  readonly lines: readonly string[];
}

export interface GuestLayout {
  readonly refusal: Refusal | null;
  /** libxl's warnings. */
  readonly warnings: readonly string[];
  readonly build: BuildInfo | null;
  /** One past the last byte of RAM below 4 GiB, and above (0: none there), as built. */
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  /** `invalid`: kept from the guest. */
  readonly rdms: readonly Readonly<RdmEntry>[];
  /** The map the guest's BIOS or kernel gets. */
  readonly e820: readonly E820Entry[];
  readonly bars: readonly PlacedBar[];
  /** hvmloader's window for BARs below 4 GiB; null without firmware. */
  readonly lowWindow: ByteRange | null;
  /** Guest addresses that have a frame (or a populate-on-demand entry) once the guest runs. */
  readonly populated: readonly ByteRange[];
  /** hvmloader's console. */
  readonly console: readonly string[];
  /** By position in the configuration's `pci`: the guest's slot, -1 where none was free. */
  readonly devfns: readonly number[];
}

const NOTHING: GuestLayout = {
  refusal: null,
  warnings: [],
  build: null,
  lowmemEnd: 0,
  highmemEnd: 0,
  rdms: [],
  e820: [],
  bars: [],
  lowWindow: null,
  populated: [],
  console: [],
  devfns: [],
};

/** ioreq server pages lie right below the special pages. */
const IOREQ_SERVER_PAGES = 8;
const KIB_PER_PAGE = 4;

const refusedByLibxl = (message: string, ...places: readonly (readonly [LibxlPlace | null, string])[]): Refusal => ({
  by: 'libxl',
  message,
  lines: places.map(([at, text]) => logText(at ? libxlError(at, text) : xlSays(text))),
});

export function guestLayoutOf(host: PlanningHost, config: GuestConfig): GuestLayout {
  const defaults = applyLibxlDefaults(config, host.caps);
  if (!defaults.ok) {
    return { ...NOTHING, refusal: refusedByLibxl(defaults.message, [defaults.at, defaults.message]) };
  }
  const { build } = defaults;
  if (config.type === 'pv') return pvLayout(host, build);
  const type = config.type;
  const layout = planLayout({
    type,
    maxMemkb: build.maxMemkb,
    targetMemkb: build.targetMemkb,
    videoMemkb: build.videoMemkb,
    mmioHoleMemkb: config.mmioHoleMemkb,
  });
  const plan = planRdm(host, build, layout);
  const planned = {
    ...NOTHING,
    build,
    warnings: plan.warnings.map((text) => logText(libxlWarning(libxlAt.rdmIgnored, text))),
    lowmemEnd: plan.lowmemEnd,
    highmemEnd: plan.highmemEnd,
    rdms: plan.rdms,
  };
  if (!plan.ok) {
    const message = 'checking reserved device memory failed';
    const [conflict = ''] = plan.errors;
    const refusal = refusedByLibxl(message, [libxlAt.rdmConflict, conflict], [libxlAt.rdmCheck, message]);
    return { ...planned, refusal };
  }
  const { lowmemEnd, highmemEnd, rdms } = plan;
  const acpiModules = type === 'pvh' && config.acpi ? pvhAcpiModules : [];
  const map = constructMemmap({ type, lowmemEnd, highmemEnd, rdms, acpiModules, acpiType: E820_NVS });
  if (!map.ok) return { ...planned, refusal: refusedByLibxl(map.message, [libxlAt.memoryMap, map.message]) };
  if (type === 'pvh') {
    const populated = [...builtRam(layout, lowmemEnd, highmemEnd), ...acpiModules.map(framesOf).map(rangeOfFrames)];
    return { ...planned, e820: map.memmap, populated: merged(populated) };
  }
  return bootHvm(host, planned, build, layout, map.memmap);
}

function planRdm(host: PlanningHost, build: BuildInfo, { lowmemEnd, highmemEnd }: HvmLayout): RdmPlan {
  return constructRdm(
    {
      lowmemEnd,
      highmemEnd,
      hap: build.hap,
      strategy: build.rdm.strategy,
      policy: build.rdm.policy,
      boundaryMemkb: build.rdmMemBoundaryMemkb,
      pcidevs: build.config.pci.map((pci) => ({ device: pciSbdf(pci), rdmPolicy: pci.rdmPolicy })),
    },
    host.rdm,
  );
}

function bootHvm(
  host: PlanningHost,
  planned: GuestLayout,
  build: BuildInfo,
  layout: HvmLayout,
  memoryMap: readonly E820Entry[],
): GuestLayout {
  const { lowmemEnd, highmemEnd } = planned;
  const passed = build.config.pci.flatMap((pci): PassedThrough[] => {
    const device = host.devices.find(({ sbdf }) => sbdf === pciSbdf(pci));
    return device ? [{ device, vdevfn: pci.vdevfn }] : [];
  });
  const bus = guestBus(build, passed);
  const port = new PlanningPort(sparePages(build, layout));
  const functions = bus.functions;
  const { physBits } = host;
  const boot = runFirmware(port, { domid: 1, build, lowmemEnd, highmemEnd, memoryMap, functions, physBits });
  const populated = merged([
    ...builtRam(layout, boot.info.lowMemPgend * PAGE, boot.info.highMemPgend * PAGE),
    ...port.populated.map((pfn) => rangeOfFrames({ start: pfn, count: 1 })),
    ...deviceModelMemory(build, { lowmemEnd, highmemEnd, mmioStart: layout.mmioStart }, boot).map(rangeOfFrames),
  ]);
  const booted = { ...planned, populated, console: boot.lines, devfns: bus.devfns };
  if (!boot.ok) {
    const message = boot.lines.findLast((line) => line.startsWith('*** HVMLoader ')) ?? 'hvmloader crashed';
    const lines = boot.lines.slice(-3).map((line) => `(d1) ${line}`);
    return { ...booted, refusal: { by: 'hvmloader', message, lines } };
  }
  const { pciMemStart, pciMemEnd } = boot.pci;
  return {
    ...booted,
    e820: build.bios === 'seabios' ? seabiosE820(boot.e820) : boot.e820,
    bars: placedBars(boot, bus, passed),
    lowWindow: { start: pciMemStart, end: pciMemEnd - 1 },
  };
}

const rangeOfFrames = ({ start, count }: { start: number; count: number }): ByteRange => ({
  start: start * PAGE,
  end: (start + count) * PAGE - 1,
});

/** What the builder leaves of the domain's limit; the memory of the adapter is populated by the device model later. */
function sparePages(build: BuildInfo, layout: HvmLayout): number {
  const populated = Math.min(layout.totalPages, layout.targetPages) - layout.vgaHolePages + NR_SPECIAL_PAGES;
  return Math.floor(build.maxmemLimitKb / KIB_PER_PAGE) - populated - IOREQ_SERVER_PAGES;
}

/** RAM of both ranges, without the VGA hole, and the special pages. */
function builtRam(layout: HvmLayout, lowmemEnd: number, highmemEnd: number): ByteRange[] {
  const vga = { start: 0xa0 * PAGE, end: (0xa0 + VGA_HOLE_PAGES) * PAGE };
  const low = layout.deviceModel
    ? [
        { start: 0, end: vga.start - 1 },
        { start: vga.end, end: lowmemEnd - 1 },
      ]
    : [{ start: 0, end: lowmemEnd - 1 }];
  const pages = NR_SPECIAL_PAGES + (layout.deviceModel ? IOREQ_SERVER_PAGES : 0);
  const special = { start: (SPECIAL_PAGES_END_PFN - pages) * PAGE, end: SPECIAL_PAGES_END_PFN * PAGE - 1 };
  const high = highmemEnd > FOUR_GIB ? [{ start: FOUR_GIB, end: highmemEnd - 1 }] : [];
  return [...low, special, ...high];
}

function placedBars(
  boot: HvmloaderResult & { ok: true },
  bus: GuestBus,
  passed: readonly PassedThrough[],
): PlacedBar[] {
  const owner = new Map(passed.map(({ device }, i) => [bus.devfns[i], device.sbdf]));
  return boot.pci.devices.flatMap((config) =>
    config.sizedRegisters().map(
      ({ bar, size, isIo, is64bit, address }): PlacedBar => ({
        sbdf: owner.get(config.fn.devfn) ?? null,
        guestSlot: config.name,
        index: bar.index === ROM_INDEX ? 'rom' : bar.index,
        size,
        isIo,
        is64bit,
        address,
      }),
    ),
  );
}

/** A PV guest's pseudo-physical map: its own memory, or with e820_host the host's map around it. */
function pvLayout(host: PlanningHost, build: BuildInfo): GuestLayout {
  const { maxMemkb } = build;
  const lowmemEnd = maxMemkb * KIB_PER_MIB;
  const planned = { ...NOTHING, build, lowmemEnd, populated: [{ start: 0, end: lowmemEnd - 1 }] };
  const map = pvMemoryMap(build, host.map);
  return map.ok
    ? { ...planned, e820: map.e820 }
    : { ...planned, refusal: refusedByLibxl(map.message, [null, map.message]) };
}
