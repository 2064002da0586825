// Assembles a domain that has just been made, in libxl's and libxenguest's order: limits, layout, reserved regions, population,
// image, special pages, memory map, firmware, xenstore, devices last, unpause. Whatever fails ends it with libxl's lines; what is
// undone then is domain-builder.ts' business.
import { type HvmloaderResult } from '../firmware/hvmloader.ts';
import { ROM_INDEX } from '../firmware/pci-bus.ts';
import { seabiosE820 } from '../firmware/seabios-e820.ts';
import { RDM_ALL, shutdownReason } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import type { BuildInfo } from './build-info.ts';
import { mmioHoleSizeKey, planLayout } from './build-layout.ts';
import type { AttachedDevice, BuiltDomain } from './built-domain.ts';
import { constructRdm, type RdmPlan, type RdmRegion } from './construct-rdm.ts';
import { deviceModelMemory } from './device-model-memory.ts';
import { E820_ACPI, E820_NVS, type E820Entry, NR_SPECIAL_PAGES, SPECIAL_PAGES_END_PFN } from './e820.ts';
import { type GuestBus, guestBus } from './emulated-bus.ts';
import { builderDetail, type LogLine, libxlAt, libxlError, libxlFailed, libxlWarning, xlSays } from './libxl-log.ts';
import { type BuilderHypercalls, meminitHvm } from './meminit-hvm.ts';
import { type AcpiModule, constructMemmap } from './memory-map.ts';
import { LIBXL_MAXMEM_CONSTANT } from './memory-maths.ts';
import { ERROR_FAIL } from './passthrough-policy.ts';
import { attachDevice, findDevice, type WindowPlaces } from './pci-assignment.ts';
import { pciSbdf } from './pci-spec.ts';
import { type Failure, failure, type Operation, type ToolstackPorts } from './ports.ts';
import { meminitPv, pvMemoryMap, pvPages } from './pv-domain.ts';
import { framesOf, pvhAcpiModules } from './pvh-acpi.ts';
import { reservedRegions } from './reserved-regions.ts';
import { runFirmware } from './run-firmware.ts';

const KIB_PER_MIB = 1024;
const MIB = 2 ** 20;
const PAGE = 4096;
const IOREQ_SERVER_PAGES = 8;
/** Where hvmloader and small kernels are loaded, and where Linux begins (16 MiB). */
const LOW_IMAGE_GFN = 0x100;
const LINUX_GFN = 0x1000;

/** What of the options of a creation matters here. */
export interface AssemblyOptions {
  /** The hypervisor populates a PoD domain before it gets a device: then all its memory must be allowed, not its target. */
  readonly populateFirst: boolean;
  /** Frames of the image (firmware, or kernel and ramdisk) that are copied in through foreign mappings. */
  readonly imagePages: number;
  /** Type of a PVH guest's ACPI tables in its memory map: `acpi` as until Xen 4.17. */
  readonly acpiRegion: 'nvs' | 'acpi';
}

export interface NewDomain {
  readonly domid: number;
  readonly incarnation: number;
}

/** Ends the build where it stands; caught by createDomain, which undoes what was done. */
export class BuildFailure extends Error {
  readonly result: Failure;
  constructor(result: Failure) {
    super(result.message);
    this.result = result;
  }
}

function fail(reason: LogLine, ...more: readonly LogLine[]): never {
  throw new BuildFailure(failure(ERROR_FAIL, reason, ...more));
}

interface Memory {
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly mmioStart: number;
  readonly map: readonly E820Entry[];
}

export class DomainAssembly {
  readonly log: LogLine[] = [];
  readonly attached: AttachedDevice[] = [];
  private readonly ports: ToolstackPorts;
  private readonly info: BuildInfo;
  private readonly options: AssemblyOptions;
  private readonly created: NewDomain;
  private readonly domid: number;

  constructor(ports: ToolstackPorts, info: BuildInfo, options: AssemblyOptions, created: NewDomain) {
    this.ports = ports;
    this.info = info;
    this.options = options;
    this.created = created;
    this.domid = created.domid;
  }

  *build(): Operation<BuiltDomain> {
    this.setLimits();
    const memory = this.info.config.type === 'pv' ? this.populatePv() : this.populate();
    yield* this.loadImage();
    this.addSpecialPages();
    this.setMemoryMap(memory.map);
    const bus = this.bus();
    const firmware = yield* this.bootFirmware(memory, bus);
    if (firmware) this.startDeviceModel(memory, firmware);
    this.writeXenstore();
    this.assignDevices(bus, firmware);
    const domain: BuiltDomain = {
      ...this.created,
      build: this.info,
      e820: this.kernelE820(memory, firmware),
      firmwareE820: firmware?.ok ? firmware.e820 : null,
      firmwareOk: firmware?.ok ?? true,
      devices: this.attached,
    };
    const placed = yield { do: 'place-guest', domain };
    if (!placed.ok) fail(xlSays(placed.text));
    this.start(domain);
    return domain;
  }

  /** libxl__build_pre: the memory limit, and the pool that p2m tables come from (whole MiB). */
  private setLimits(): void {
    const { port } = this.ports;
    const { domid, info } = this;
    const limit = port.call({ op: 'max_mem', domid, maxKb: info.maxmemLimitKb });
    if (limit.rc < 0) this.cannotBuild(libxlFailed(libxlAt.maxMemory, "Couldn't set max memory", limit.rc));
    if (info.config.type === 'pv') return; // no p2m tables
    const bytes = Math.ceil(info.shadowMemkb / KIB_PER_MIB) * MIB;
    const pool = port.call({ op: 'set_paging_mempool_size', domid, bytes });
    if (pool.rc < 0) {
      const text = `Failed to set paging mempool size to ${info.shadowMemkb}kB`;
      this.cannotBuild(libxlFailed(libxlAt.pagingPool, text, pool.rc, domid));
    }
  }

  private populate(): Memory {
    const { info } = this;
    const { config } = info;
    const layout = planLayout({
      type: config.type === 'hvm' ? 'hvm' : 'pvh',
      maxMemkb: info.maxMemkb,
      targetMemkb: info.targetMemkb,
      videoMemkb: info.videoMemkb,
      mmioHoleMemkb: config.mmioHoleMemkb,
    });
    const rdm = this.planRdm(layout.lowmemEnd, layout.highmemEnd);
    const { lowmemEnd, highmemEnd } = rdm;
    const result = meminitHvm(
      {
        ...layout,
        lowmemEnd,
        highmemEnd,
        claimEnabled: info.claimMode,
        memflags: 0,
        vmemranges: [],
        vnodeToPnode: [],
      },
      this.builderCalls(),
    );
    if (!result.ok) this.noMemory(result.message);
    const type = config.type === 'hvm' ? 'hvm' : 'pvh';
    const acpiType = this.options.acpiRegion === 'acpi' ? E820_ACPI : E820_NVS;
    const map = constructMemmap({
      type,
      lowmemEnd,
      highmemEnd,
      rdms: rdm.rdms,
      acpiModules: this.acpiModules(),
      acpiType,
    });
    if (!map.ok) this.cannotBuild(libxlError(libxlAt.memoryMap, map.message, this.domid));
    return { lowmemEnd, highmemEnd, mmioStart: layout.mmioStart, map: map.memmap };
  }

  private populatePv(): Memory {
    const { info } = this;
    const map = pvMemoryMap(info, this.ports.memoryMap);
    if (!map.ok) this.cannotBuild(builderDetail(map.message));
    const pages = pvPages(info);
    if (!meminitPv(pages, info.claimMode, this.builderCalls()))
      this.noMemory('failed to allocate memory for the domain');
    return { lowmemEnd: pages * PAGE, highmemEnd: 0, mmioStart: 0, map: map.e820 };
  }

  private builderCalls(): BuilderHypercalls {
    const { port } = this.ports;
    const { domid } = this;
    return {
      populate: (order, memFlags, extents, firstPfn) =>
        port.call({ op: 'populate_physmap', domid, order, memFlags, extents: { start: firstPfn, count: extents } }).rc,
      claim: (pages) => port.call({ op: 'claim_pages', domid, pages }).rc === 0,
      setPodTarget: (targetPages) => port.call({ op: 'set_pod_target', domid, targetPages }).rc === 0,
    };
  }

  /** libxenguest leaves no errno behind that would tell more than its own words. */
  private noMemory(text: string): never {
    const last = libxlFailed(libxlAt.memInit, 'xc_dom_boot_mem_init failed', -errno.ENOMEM);
    this.cannotBuild(builderDetail(text), last);
  }

  private acpiModules(): readonly AcpiModule[] {
    const { type, acpi } = this.info.config;
    return type === 'pvh' && acpi ? pvhAcpiModules : [];
  }

  /** The hypervisor is asked by device before any device is assigned: population comes first. */
  private planRdm(lowmemEnd: number, highmemEnd: number): RdmPlan {
    const { info } = this;
    const plan = constructRdm(
      {
        lowmemEnd,
        highmemEnd,
        hap: info.hap,
        strategy: info.rdm.strategy,
        policy: info.rdm.policy,
        boundaryMemkb: info.rdmMemBoundaryMemkb,
        pcidevs: info.config.pci.map((pci) => ({ device: pciSbdf(pci), rdmPolicy: pci.rdmPolicy })),
      },
      { all: () => this.reservedRegions(RDM_ALL, 0), forDevice: (sbdf) => this.reservedRegions(0, sbdf) },
    );
    this.log.push(...plan.warnings.map((text) => libxlWarning(libxlAt.rdmIgnored, text)));
    if (!plan.ok) {
      const [conflict = ''] = plan.errors;
      const last = libxlError(libxlAt.rdmCheck, 'checking reserved device memory failed');
      this.cannotBuild(libxlError(libxlAt.rdmConflict, conflict), last);
    }
    return plan;
  }

  private reservedRegions(flags: number, sbdf: number): readonly RdmRegion[] {
    return reservedRegions(this.ports.port, flags, sbdf) ?? this.noReservedRegions();
  }

  /** libxl says last that it gives up building the domain. */
  private cannotBuild(reason: LogLine, ...more: readonly LogLine[]): never {
    fail(reason, ...more, libxlError(libxlAt.cannotBuild, `cannot (re-)build domain: ${ERROR_FAIL}`, this.domid));
  }

  private imageFailed(text: string): never {
    const last = libxlFailed(libxlAt.buildImage, 'xc_dom_build_image failed', -errno.ENOMEM);
    this.cannotBuild(builderDetail(text), last);
  }

  private noReservedRegions(): never {
    const text = 'Could not get reserved device memory maps.';
    const last = libxlError(libxlAt.rdmCheck, 'checking reserved device memory failed');
    this.cannotBuild(libxlError(libxlAt.rdmQuery, text), last);
  }

  private *loadImage(): Operation<void> {
    const { domid, info } = this;
    const ram = Math.floor((info.maxMemkb - info.videoMemkb) / 4);
    const gfn = info.config.type === 'hvm' || ram < 2 * LINUX_GFN ? LOW_IMAGE_GFN : LINUX_GFN;
    const room = ram - gfn;
    const pages = Math.min(this.options.imagePages, room);
    // A PV domain's frames are mapped by mfn, which only its builder's table knows.
    if (pages <= 0 || info.config.type === 'pv') return;
    const copied = yield { do: 'copy-image', domid, gfn, pages };
    if (!copied.ok) this.imageFailed(`failed to load the image: ${copied.text}`);
  }

  private addSpecialPages(): void {
    if (this.info.config.type === 'pv') return; // they are pages of its RAM
    const first = SPECIAL_PAGES_END_PFN - NR_SPECIAL_PAGES;
    if (!this.populateExactly(first, NR_SPECIAL_PAGES)) this.imageFailed('Could not allocate special pages.');
    for (const module of this.acpiModules()) {
      const { start, count } = framesOf(module);
      if (!this.populateExactly(start, count)) this.imageFailed('Could not allocate pages for the ACPI tables.');
    }
    if (this.info.config.type !== 'hvm') return;
    if (!this.populateExactly(first - IOREQ_SERVER_PAGES, IOREQ_SERVER_PAGES)) {
      this.imageFailed('Could not allocate ioreq server pages.');
    }
  }

  private populateExactly(start: number, count: number): boolean {
    const extents = { start, count };
    const { domid } = this;
    return this.ports.port.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents }).rc === count;
  }

  private setMemoryMap(entries: readonly E820Entry[]): void {
    const { rc } = this.ports.port.call({ op: 'set_memory_map', domid: this.domid, entries });
    if (rc === 0) return;
    this.cannotBuild(
      libxlFailed(libxlAt.memoryMap, 'setting domain memory map failed', rc),
      libxlFailed(libxlAt.finaliseHw, 'libxl__arch_domain_finalise_hw_description failed', rc),
    );
  }

  private bus(): GuestBus {
    const passed = this.info.config.pci.flatMap((pci) => {
      const device = findDevice(this.ports, pciSbdf(pci));
      return device ? [{ device, vdevfn: pci.vdevfn }] : [];
    });
    return guestBus(this.info, passed);
  }

  /** null: a domain without firmware. A crash of the firmware is the guest's end, not a failure to build it. */
  private *bootFirmware(memory: Memory, bus: GuestBus): Operation<HvmloaderResult | null> {
    if (this.info.config.type !== 'hvm') return null;
    const { lowmemEnd, highmemEnd, map } = memory;
    const result = runFirmware(this.ports.port, {
      domid: this.domid,
      build: this.info,
      lowmemEnd,
      highmemEnd,
      memoryMap: map,
      functions: bus.functions,
      physBits: this.ports.physBits,
    });
    yield { do: 'console', domid: this.domid, lines: result.lines };
    return result;
  }

  private startDeviceModel(memory: Memory, firmware: HvmloaderResult): void {
    for (const { start, count } of deviceModelMemory(this.info, memory, firmware)) {
      if (this.populateExactly(start, count)) continue;
      // The place of libxl's line is not among those known.
      fail(xlSays(`Domain ${this.domid}:device model did not start: ${ERROR_FAIL}`));
    }
  }

  /** What a kernel is given: SeaBIOS changes its copy of hvmloader's table; what OVMF makes of it is not modelled. */
  private kernelE820(memory: Memory, firmware: HvmloaderResult | null): readonly E820Entry[] {
    if (!firmware?.ok) return memory.map;
    return this.info.bios === 'seabios' ? seabiosE820(firmware.e820) : firmware.e820;
  }

  private writeXenstore(): void {
    const { domid, info } = this;
    const { config, xenstore: memory } = info;
    const write = (path: string, value: string | number): void => this.ports.xenstore.write(domid, path, String(value));
    write('name', config.name);
    write('domid', domid);
    write('memory/static-max', memory.staticMax);
    write('memory/target', memory.target);
    write('memory/videoram', memory.videoram);
    if (config.type !== 'hvm') return;
    write('platform/acpi', config.acpi ? 1 : 0);
    write('hvmloader/allow-memory-relocate', 0);
    write('hvmloader/pci/xen-platform-pci-bar-uc', config.xenPlatformPciBarUc ? 1 : 0);
    const hole = mmioHoleSizeKey(config.mmioHoleMemkb);
    if (hole !== null) write('platform/mmio_hole_size', hole);
  }

  private assignDevices(bus: GuestBus, firmware: HvmloaderResult | null): void {
    if (this.info.podEnabled && this.options.populateFirst && this.info.config.pci.length > 0) {
      const maxKb = this.info.maxMemkb + LIBXL_MAXMEM_CONSTANT;
      const { rc } = this.ports.port.call({ op: 'max_mem', domid: this.domid, maxKb });
      if (rc < 0) fail(libxlFailed(libxlAt.maxMemory, "Couldn't set max memory", rc));
    }
    this.info.config.pci.forEach((pci, i) => {
      const result = attachDevice(this.ports, this.domid, pci, windowPlaces(bus.devfns[i] ?? -1, firmware));
      if (!result.ok) {
        const last = libxlError(libxlAt.unableToAdd, 'unable to add pci devices', this.domid);
        throw new BuildFailure({ ...result, log: [...result.log, last] });
      }
      this.attached.push(result.attached);
      this.log.push(...result.log);
    });
  }

  private start(domain: BuiltDomain): void {
    const { port } = this.ports;
    const { domid } = this;
    const { rc } = port.call({ op: 'unpausedomain', domid });
    if (rc < 0) fail(libxlFailed(libxlAt.unpause, 'Unpausing domain', rc, domid));
    if (!domain.firmwareOk) port.call({ op: 'remote_shutdown', domid, reason: shutdownReason.crash });
  }
}

/** Where firmware put the windows of the function at `devfn`. */
function windowPlaces(devfn: number, firmware: HvmloaderResult | null): WindowPlaces {
  const places = new Map<number | 'rom', number>();
  if (!firmware?.ok) return places;
  const config = firmware.pci.devices.find(({ fn }) => fn.devfn === devfn);
  for (const { bar, address } of config?.registers ?? []) {
    if (address !== null) places.set(bar.index === ROM_INDEX ? 'rom' : bar.index, address);
  }
  return places;
}
