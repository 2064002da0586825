// `xl create` from a configuration to a running domain, in libxl's and libxenguest's order: refusals, memory made free, the
// domain itself, its limits, layout, reserved regions, population, image, special pages, memory map, firmware, xenstore,
// devices last, unpause. Whatever fails, the half-built domain is destroyed and libxl's message returned.
import { type HvmloaderResult } from '../firmware/hvmloader.ts';
import { ROM_INDEX } from '../firmware/pci-bus.ts';
import { RDM_ALL, shutdownReason } from '../hypercall/calls.ts';
import { errno, errnoName } from '../hypercall/errno.ts';
import { applyLibxlDefaults, type BuildInfo } from './build-info.ts';
import { mmioHoleSizeKey, planLayout } from './build-layout.ts';
import type { AttachedDevice, BuiltDomain } from './built-domain.ts';
import { constructRdm, type RdmPlan, type RdmRegion } from './construct-rdm.ts';
import { destroyDomain } from './destroy-domain.ts';
import { type E820Entry, NR_SPECIAL_PAGES, SPECIAL_PAGES_END_PFN } from './e820.ts';
import { type GuestBus, guestBus } from './emulated-bus.ts';
import { freeMemory } from './free-memory.ts';
import type { GuestConfig } from './guest-config.ts';
import { meminitHvm } from './meminit-hvm.ts';
import { constructMemmap } from './memory-map.ts';
import { LIBXL_MAXMEM_CONSTANT } from './memory-maths.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { attachDevice, findDevice, type WindowPlaces } from './pci-assignment.ts';
import { pciSbdf } from './pci-spec.ts';
import { type Failure, failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';
import { runFirmware } from './run-firmware.ts';

const KIB_PER_MIB = 1024;
const MIB = 2 ** 20;
const IOREQ_SERVER_PAGES = 8;
/** Where hvmloader and small kernels are loaded, and where Linux begins (16 MiB). */
const LOW_IMAGE_GFN = 0x100;
const LINUX_GFN = 0x1000;

export interface CreateOptions {
  /** libxl's own refusal of PoD together with passthrough; off: as toolstacks before it. */
  readonly libxlPodCheck: 'on' | 'off';
  /** The hypervisor populates a PoD domain before it gets a device: then all its memory must be allowed, not its target. */
  readonly populateFirst: boolean;
  /** xl.conf's claim_mode. */
  readonly claimMode: boolean;
  /** xl.conf's autoballoon: dom0 gives memory up when the host has too little. */
  readonly autoballoon: boolean;
  /** Frames of the image (firmware, or kernel and ramdisk) that are copied in through foreign mappings. */
  readonly imagePages: number;
}

export const defaultCreateOptions: CreateOptions = {
  libxlPodCheck: 'on',
  populateFirst: false,
  claimMode: true,
  autoballoon: false,
  imagePages: 256,
};

/** Ends the build where it stands; caught in createDomain, which undoes what was done. */
class BuildFailure extends Error {
  readonly result: Failure;
  constructor(result: Failure) {
    super(result.message);
    this.result = result;
  }
}

function fail(message: string, rc = 0, log: readonly string[] = []): never {
  const reason = rc < 0 ? [`${message}: ${errnoName(rc)}`] : [];
  throw new BuildFailure({ ...failure(ERROR_FAIL, message, [...log, ...reason]) });
}

export function* createDomain(
  ports: ToolstackPorts,
  config: GuestConfig,
  options: CreateOptions = defaultCreateOptions,
): Operation<OpResult<{ readonly domain: BuiltDomain }>> {
  if (config.type === 'pv') return failure(ERROR_INVAL, 'PV domains cannot be built in this version');
  const { libxlPodCheck, claimMode } = options;
  const podWithPassthrough = libxlPodCheck === 'on' ? 'refuse' : 'allow';
  const defaults = applyLibxlDefaults(config, ports.caps, { claimMode, podWithPassthrough });
  if (!defaults.ok) return failure(defaults.rc, defaults.message);
  const { build } = defaults;
  if (options.autoballoon) {
    const freed = yield* freeMemory(ports, build.needMemkb);
    if (!freed.ok) return freed;
  }
  const created = makeDomain(ports, build);
  if (typeof created === 'number') return failure(ERROR_FAIL, 'domain creation fail', [errnoName(created)]);
  const builder = new DomainBuilder(ports, build, options, created);
  try {
    const domain = yield* builder.build();
    return { ok: true, log: builder.log, domain };
  } catch (error) {
    if (!(error instanceof BuildFailure)) throw error;
    yield* destroyDomain(ports, created.domid, builder.attached);
    return { ...error.result, log: [...builder.log, ...error.result.log] };
  }
}

interface NewDomain {
  readonly domid: number;
  readonly incarnation: number;
}

function makeDomain({ port }: ToolstackPorts, build: BuildInfo): NewDomain | number {
  const { rc, domid, incarnation } = port.call({
    op: 'createdomain',
    domid: 0,
    name: build.config.name,
    hvm: true,
    hap: build.hap,
    iommu: build.passthrough !== 'disabled',
    noSharept: build.passthrough === 'sync_pt',
    vcpus: build.config.maxVcpus,
    deviceModel: build.config.type === 'hvm',
  });
  if (rc < 0) return rc;
  return domid === undefined || incarnation === undefined ? -errno.EINVAL : { domid, incarnation };
}

interface Memory {
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly map: readonly E820Entry[];
}

class DomainBuilder {
  readonly log: string[] = [];
  readonly attached: AttachedDevice[] = [];
  private readonly ports: ToolstackPorts;
  private readonly info: BuildInfo;
  private readonly options: CreateOptions;
  private readonly created: NewDomain;
  private readonly domid: number;

  constructor(ports: ToolstackPorts, info: BuildInfo, options: CreateOptions, created: NewDomain) {
    this.ports = ports;
    this.info = info;
    this.options = options;
    this.created = created;
    this.domid = created.domid;
  }

  *build(): Operation<BuiltDomain> {
    this.setLimits();
    const memory = this.populate();
    yield* this.loadImage();
    this.addSpecialPages();
    this.setMemoryMap(memory.map);
    const bus = this.bus();
    const firmware = yield* this.bootFirmware(memory, bus);
    this.writeXenstore();
    this.assignDevices(bus, firmware);
    const domain: BuiltDomain = {
      ...this.created,
      build: this.info,
      e820: firmware?.ok ? firmware.e820 : memory.map,
      firmwareOk: firmware?.ok ?? true,
      devices: this.attached,
    };
    const placed = yield { do: 'place-guest', domain };
    if (!placed.ok) fail(placed.text);
    this.start(domain);
    return domain;
  }

  /** libxl__build_pre: the memory limit, and the pool that p2m tables come from (whole MiB). */
  private setLimits(): void {
    const { port } = this.ports;
    const { domid, info } = this;
    const limit = port.call({ op: 'max_mem', domid, maxKb: info.maxmemLimitKb });
    if (limit.rc < 0) fail("Couldn't set max memory", limit.rc);
    const bytes = Math.ceil(info.shadowMemkb / KIB_PER_MIB) * MIB;
    const pool = port.call({ op: 'set_paging_mempool_size', domid, bytes });
    if (pool.rc < 0) fail('Failed to set paging mempool size', pool.rc);
  }

  private populate(): Memory {
    const { port } = this.ports;
    const { info, domid } = this;
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
      {
        populate: (order, memFlags, extents, firstPfn) =>
          port.call({ op: 'populate_physmap', domid, order, memFlags, extents: { start: firstPfn, count: extents } })
            .rc,
        claim: (pages) => port.call({ op: 'claim_pages', domid, pages }).rc === 0,
        setPodTarget: (targetPages) => port.call({ op: 'set_pod_target', domid, targetPages }).rc === 0,
      },
    );
    if (!result.ok) fail(result.message);
    const { pages4k, pages2m, pages1g } = result.counts;
    this.log.push(`PHYSICAL MEMORY ALLOCATION: 4KB: ${pages4k}, 2MB: ${pages2m}, 1GB: ${pages1g}`);
    const type = config.type === 'hvm' ? 'hvm' : 'pvh';
    const map = constructMemmap({ type, lowmemEnd, highmemEnd, rdms: rdm.rdms, acpiModules: [] });
    if (!map.ok) fail(map.message);
    return { lowmemEnd, highmemEnd, map: map.memmap };
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
    this.log.push(...plan.warnings);
    if (!plan.ok) fail('checking reserved device memory failed', 0, plan.errors);
    return plan;
  }

  /** Asked with no room first, for the number. */
  private reservedRegions(flags: number, sbdf: number): readonly RdmRegion[] {
    const { port } = this.ports;
    const op = 'reserved_device_memory_map';
    const first = port.call({ op, flags, sbdf, capacity: 0 });
    if (first.rc === 0) return [];
    if (first.rc !== -errno.ENOBUFS) fail('Could not get reserved device memory maps', first.rc);
    const second = port.call({ op, flags, sbdf, capacity: first.required ?? 0 });
    if (second.rc < 0) fail('Could not get reserved device memory maps', second.rc);
    return second.entries ?? [];
  }

  private *loadImage(): Operation<void> {
    const { domid, info } = this;
    const ram = Math.floor((info.maxMemkb - info.videoMemkb) / 4);
    const gfn = info.config.type === 'hvm' || ram < 2 * LINUX_GFN ? LOW_IMAGE_GFN : LINUX_GFN;
    const room = ram - gfn;
    const pages = Math.min(this.options.imagePages, room);
    if (pages <= 0) return;
    const copied = yield { do: 'copy-image', domid, gfn, pages };
    if (!copied.ok) fail(`failed to load the image: ${copied.text}`);
  }

  private addSpecialPages(): void {
    const first = SPECIAL_PAGES_END_PFN - NR_SPECIAL_PAGES;
    if (!this.populateExactly(first, NR_SPECIAL_PAGES)) fail('Could not allocate special pages.');
    if (this.info.config.type !== 'hvm') return;
    if (!this.populateExactly(first - IOREQ_SERVER_PAGES, IOREQ_SERVER_PAGES)) {
      fail('Could not allocate ioreq server pages.');
    }
  }

  private populateExactly(start: number, count: number): boolean {
    const extents = { start, count };
    const { domid } = this;
    return this.ports.port.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents }).rc === count;
  }

  private setMemoryMap(entries: readonly E820Entry[]): void {
    const { rc } = this.ports.port.call({ op: 'set_memory_map', domid: this.domid, entries });
    if (rc < 0) fail('setting domain memory map failed', rc);
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
      if (rc < 0) fail("Couldn't set max memory", rc);
    }
    this.info.config.pci.forEach((pci, i) => {
      const result = attachDevice(this.ports, this.domid, pci, windowPlaces(bus.devfns[i] ?? -1, firmware));
      if (!result.ok) throw new BuildFailure(result);
      this.attached.push(result.attached);
      this.log.push(...result.log);
    });
  }

  private start(domain: BuiltDomain): void {
    const { port } = this.ports;
    const { domid } = this;
    const { rc } = port.call({ op: 'unpausedomain', domid });
    if (rc < 0) fail('unpausing domain failed', rc);
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
