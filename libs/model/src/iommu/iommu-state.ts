// All shared state of the IOMMUs: context entries, caches, fault records, who owns which device, transactions under way,
// and the table pages that wait to be freed. It owns the storage and its layout; every rule about it stands in its own file.

import type { Domid, Sbdf } from '../frames/addresses.ts';
import type { DeviceConfig, HostConfig, IommuUnitConfig } from '../host-config.ts';
import type { Mutex } from '../shared-memory/mutex.ts';
import { hasDeviceTlb } from './device-tlb.ts';
import { InFlight } from './in-flight.ts';
import { Requesters } from './requesters.ts';
import { TranslationCache } from './translation-cache.ts';
import { type Descriptor, executor } from './vtd/descriptor.ts';
import { mapEntries } from './vtd/domain-ids.ts';
import { InvalidationQueue } from './vtd/invalidation-queue.ts';

/** Fault recording registers of a unit. */
export const FAULT_RECORDS = 8;
/** Words of a fault record: state, source id, kind, reason. */
export const FAULT_WORDS = 4;
const ROOT_ENTRIES = 256;

export interface UnitLocks {
  readonly context: Mutex;
  readonly register: Mutex;
}

export interface Unit extends UnitLocks {
  readonly index: number;
  readonly config: IommuUnitConfig;
  readonly cache: TranslationCache;
  /** One word per bus: its context table exists (root entry present). */
  readonly roots: Int32Array<SharedArrayBuffer>;
  /** FAULT_RECORDS records of FAULT_WORDS words. */
  readonly faultWords: Int32Array<SharedArrayBuffer>;
  /** Their addresses, in frames. */
  readonly faultFrames: Float64Array<SharedArrayBuffer>;
  /** (atomic) next record that hardware writes; next that software reads; overflow seen. */
  readonly faultIndex: Int32Array<SharedArrayBuffer>;
  /** (atomic) domid + 1 per domain id of a unit that has few; empty where an id is the domain's number. */
  readonly didOwners: Int32Array<SharedArrayBuffer>;
  /** null: invalidations are written to registers. */
  readonly queue: InvalidationQueue | null;
  /** What the hardware does for one invalidation. */
  readonly execute: (descriptor: Descriptor) => void;
}

/** Words of a device's record. */
const DEVICE_WORDS = 6;
export const deviceWord = {
  /** domid + 1 of the owner; 0 = Xen does not know the device yet. pcidevs lock. */
  owner: 0,
  /** (atomic) */
  busMasterOff: 1,
  faultCount: 2,
  broken: 3,
  /** "assignable-add" was done: deassigning returns it to quarantine. */
  quarantine: 4,
  /** (atomic) its TLB did not answer an invalidation: ATS is off for it. */
  atsOff: 5,
} as const;

interface Layout {
  readonly bytes: number;
  readonly contexts: number;
  readonly lastFault: number;
  readonly quarantineRoots: number;
  readonly units: readonly number[];
  readonly deviceTlbs: readonly number[];
  readonly queueNext: number;
  readonly queueHeads: number;
  readonly pendingFlush: number;
  readonly unitUse: number;
  readonly devices: number;
  readonly scratch: number;
  readonly inFlight: number;
}

/** pCPUs, DMA threads and the main thread. */
const cpusOf = (config: HostConfig): number => config.pcpus + config.dmaThreads + 1;

const UNIT_WORDS = 1 + 1 + ROOT_ENTRIES + FAULT_RECORDS * FAULT_WORDS + 4;

const aligned = (bytes: number): number => Math.ceil(bytes / 8) * 8;

function unitBytes(config: HostConfig, unit: IommuUnitConfig, requesters: number): number {
  const words = UNIT_WORDS + mapEntries(unit);
  const queue = InvalidationQueue.bytes(cpusOf(config));
  return FAULT_RECORDS * 8 + TranslationCache.bytes(requesters) + aligned(queue) + words * 4;
}

/** A device TLB: the cache and its sequence. */
const deviceTlbBytes = TranslationCache.bytes(1) + 8;

function layoutOf(config: HostConfig): Layout {
  let at = 0;
  const take = (bytes: number): number => {
    const start = at;
    at += aligned(bytes);
    return start;
  };
  const devices = config.devices.length;
  const requesters = Requesters.count(config);
  return {
    contexts: take(requesters * 8),
    lastFault: take(devices * 8),
    quarantineRoots: take(devices * 8),
    units: config.units.map((unit) => take(unitBytes(config, unit, requesters))),
    deviceTlbs: config.devices.map((_, device) => (hasDeviceTlb(config, device) ? take(deviceTlbBytes) : -1)),
    queueNext: take(config.tablePages * 4),
    queueHeads: take(cpusOf(config) * 4),
    pendingFlush: take(config.maxDomains * 4),
    unitUse: take(config.maxDomains * config.units.length * 4),
    devices: take(devices * DEVICE_WORDS * 4),
    scratch: take(8 * 8),
    inFlight: take(InFlight.bytes(config.dmaThreads)),
    get bytes() {
      return at;
    },
  };
}

export class IommuState {
  static bytes(config: HostConfig): number {
    return layoutOf(config).bytes;
  }

  readonly units: readonly Unit[];
  /** Every id that requests carry; the first ones are the devices' own, in their order. */
  readonly requesters: Requesters;
  /** By device; null: it has none. */
  readonly deviceTlbs: readonly (TranslationCache | null)[];
  /** Context entry of each requester (context-entry.ts): the context tables of all units. */
  readonly contexts: Float64Array<SharedArrayBuffer>;
  readonly lastFaultMs: Float64Array<SharedArrayBuffer>;
  /** Table index of a device's private quarantine tables; 0 = none. */
  readonly quarantineRoots: Float64Array<SharedArrayBuffer>;
  /** Next queued table page, and the head of each CPU's queue. */
  readonly queueNext: Uint32Array<SharedArrayBuffer>;
  readonly queueHeads: Uint32Array<SharedArrayBuffer>;
  /** (atomic) per domain slot: a flush was deferred, domid + 1. */
  readonly pendingFlush: Int32Array<SharedArrayBuffer>;
  readonly inFlight: InFlight;
  /** Scratch page + 1 and the tables of levels 0…2 that lead to it (quarantine mode scratch-page). */
  readonly scratch: Float64Array<SharedArrayBuffer>;
  /** Sizes that all units can map and the operator allows. */
  readonly superpage2m: boolean;
  readonly superpage1g: boolean;
  readonly snoop: boolean;
  /** Fewest levels of any unit: tables above stay when they empty. */
  readonly minLevels: number;
  /** Xen's per-CPU iommu_dont_flush_iotlb: only this thread sees it. */
  dontFlush = false;

  private readonly config: HostConfig;
  private readonly use: Int32Array<SharedArrayBuffer>;
  private readonly deviceWords: Int32Array<SharedArrayBuffer>;
  private readonly bySbdf = new Map<number, number>();
  private readonly unitByDevice: number[];

  constructor(buffer: SharedArrayBuffer, config: HostConfig, locks: (unit: number) => UnitLocks) {
    const at = layoutOf(config);
    const devices = config.devices.length;
    this.config = config;
    this.requesters = new Requesters(config);
    this.contexts = new Float64Array(buffer, at.contexts, this.requesters.all.length);
    this.lastFaultMs = new Float64Array(buffer, at.lastFault, devices);
    this.quarantineRoots = new Float64Array(buffer, at.quarantineRoots, devices);
    this.deviceTlbs = at.deviceTlbs.map((start) => {
      if (start < 0) return null;
      const sequence = new Int32Array(buffer, start + TranslationCache.bytes(1), 2);
      return new TranslationCache(buffer, start, 1, sequence);
    });
    this.units = config.units.map((unit, index) =>
      this.attachUnit(buffer, at.units[index] as number, index, unit, locks(unit.id)),
    );
    this.queueNext = new Uint32Array(buffer, at.queueNext, config.tablePages);
    this.queueHeads = new Uint32Array(buffer, at.queueHeads, cpusOf(config));
    this.pendingFlush = new Int32Array(buffer, at.pendingFlush, config.maxDomains);
    this.use = new Int32Array(buffer, at.unitUse, config.maxDomains * config.units.length);
    this.deviceWords = new Int32Array(buffer, at.devices, devices * DEVICE_WORDS);
    this.scratch = new Float64Array(buffer, at.scratch, 8);
    this.inFlight = new InFlight(buffer, at.inFlight, config.dmaThreads);
    for (const [index, device] of config.devices.entries()) this.bySbdf.set(device.sbdf, index);
    this.unitByDevice = config.devices.map((device) => config.units.findIndex((unit) => unit.id === device.unit));
    const superpages = config.policies.iommuSuperpages === 'on';
    this.superpage2m = superpages && config.units.every((unit) => unit.superpage2m);
    this.superpage1g = this.superpage2m && config.units.every((unit) => unit.superpage1g);
    this.snoop = config.units.every((unit) => unit.snoopControl);
    this.minLevels = Math.min(4, ...config.units.map((unit) => unit.levels));
  }

  private attachUnit(
    buffer: SharedArrayBuffer,
    start: number,
    index: number,
    config: IommuUnitConfig,
    locks: UnitLocks,
  ): Unit {
    const requesters = this.requesters.all.length;
    const cacheAt = start + FAULT_RECORDS * 8;
    const queueAt = cacheAt + TranslationCache.bytes(requesters);
    const cpus = cpusOf(this.config);
    let at = queueAt + aligned(InvalidationQueue.bytes(cpus));
    const words = (count: number): Int32Array<SharedArrayBuffer> => {
      const array = new Int32Array(buffer, at, count);
      at += count * 4;
      return array;
    };
    const sequence = words(2);
    const cache = new TranslationCache(buffer, cacheAt, requesters, sequence);
    const queued = config.queuedInvalidation !== false;
    const execute = executor(cache, this.deviceTlbs);
    const queue = queued ? new InvalidationQueue(buffer, queueAt, cpus, config.id, execute) : null;
    return {
      index,
      config,
      context: locks.context,
      register: locks.register,
      cache,
      queue,
      execute,
      roots: words(ROOT_ENTRIES),
      faultWords: words(FAULT_RECORDS * FAULT_WORDS),
      faultIndex: words(4),
      didOwners: words(mapEntries(config)),
      faultFrames: new Float64Array(buffer, start, FAULT_RECORDS),
    };
  }

  /** Index of a device in the host's description, or -1. */
  deviceIndex(sbdf: Sbdf | number): number {
    return this.bySbdf.get(sbdf) ?? -1;
  }
  device(index: number): DeviceConfig {
    return this.config.devices[index] as DeviceConfig; // index comes from deviceIndex
  }
  unitOf(device: number): Unit {
    return this.units[this.unitByDevice[device] as number] as Unit; // a host file names an existing unit for each device
  }

  read(device: number, word: keyof typeof deviceWord): number {
    return Atomics.load(this.deviceWords, device * DEVICE_WORDS + deviceWord[word]);
  }
  write(device: number, word: keyof typeof deviceWord, value: number): void {
    Atomics.store(this.deviceWords, device * DEVICE_WORDS + deviceWord[word], value);
  }
  /** -1 = Xen does not know the device. */
  ownerOf(device: number): Domid | -1 {
    return (this.read(device, 'owner') - 1) as Domid | -1; // stored as domid + 1
  }

  /** Devices of a domain slot behind a unit: a flush goes to units where it is not 0 (Xen's per-domain iommu_bitmap). */
  unitUse(slot: number, unit: number): number {
    return Atomics.load(this.use, slot * this.config.units.length + unit);
  }
  addUnitUse(slot: number, unit: number, delta: number): void {
    Atomics.add(this.use, slot * this.config.units.length + unit, delta);
  }
}
