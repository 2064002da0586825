// A host: all its shared memory, and one thread's view of it. `createHost` allocates and boots; every thread then attaches
// with its own CPU number. The view carries no state of its own beyond what the thread's stack holds (held locks excepted,
// and those are mirrored in shared memory so that a panic can name them).

import { DeviceQueues } from './device/device-queues.ts';
import { Domain } from './domain/domain.ts';
import { domainRecord, domainState } from './domain/domain-record.ts';
import { DOMID_IO, type Domid } from './frames/addresses.ts';
import { FrameTable } from './frames/frame-table.ts';
import { Heap } from './frames/heap.ts';
import { GpuMemory } from './gpu/gpu-memory.ts';
import { GrantTables } from './grant/grant-state.ts';
import type { HostConfig } from './host-config.ts';
import { IommuState } from './iommu/iommu-state.ts';
import { PvIommuState } from './iommu/pv-iommu-state.ts';
import { parseDmar } from './iommu/vtd/dmar.ts';
import { CpuTlbs } from './p2m/cpu-tlb.ts';
import { Counters } from './shared-memory/counters.ts';
import { CONTROL_DOMAIN_BIAS, type LockName, lockLevel } from './shared-memory/lock-order.ts';
import { type LockDeclaration, type LockRow, LockTable } from './shared-memory/lock-table.ts';
import { Mutex } from './shared-memory/mutex.ts';
import { PanicCell } from './shared-memory/panic.ts';
import { RwLock } from './shared-memory/rwlock.ts';
import { TablePages } from './shared-memory/table-pages.ts';

/** What the model reports to the process around it. Never called with a decision hanging on it. */
export interface Platform {
  /** One line of the hypervisor's console, without the `(XEN) ` prefix. */
  printk(line: string): void;
  /** An event invariant was violated at this step. */
  violation(v: Violation): void;
}

export interface Violation {
  readonly invariant: string;
  /** One sentence with the numbers. */
  readonly text: string;
  readonly evidence: Readonly<Record<string, number | string>>;
}

/** Everything a thread needs to attach; structured-cloneable. */
export interface HostShared {
  /** The host as Xen runs it, once it has read firmware's tables. */
  readonly config: HostConfig;
  /** What it said while it read them. */
  readonly dmarLines: readonly string[];
  readonly buffers: {
    readonly panic: SharedArrayBuffer;
    readonly locks: SharedArrayBuffer;
    readonly counters: SharedArrayBuffer;
    readonly frames: SharedArrayBuffer;
    readonly heap: SharedArrayBuffer;
    readonly tables: SharedArrayBuffer;
    readonly domains: SharedArrayBuffer;
    readonly slots: SharedArrayBuffer;
    readonly tlbs: SharedArrayBuffer;
    readonly iommu: SharedArrayBuffer;
    readonly devices: SharedArrayBuffer;
    readonly grants: SharedArrayBuffer;
    readonly pvIommu: SharedArrayBuffer;
    readonly gpus: SharedArrayBuffer;
  };
}

const GLOBAL_LOCKS = [
  'domctl',
  'pcidevs',
  'pvIommu',
  'heap',
  'tablePages',
  'domainList',
] as const satisfies readonly LockName[];
const DOMAIN_LOCKS = [
  'p2m',
  'pod',
  'pageAlloc',
  'paging',
  'pci',
  'grantTable',
  'grantActive',
  'grantMaptrack',
  'iommuMapping',
] as const satisfies readonly LockName[];
const DEVICE_LOCKS = ['deviceQueue'] as const satisfies readonly LockName[];
const UNIT_LOCKS = ['iommuContext', 'iommuRegister'] as const satisfies readonly LockName[];
/** Words of the slot table: next domid, next incarnation, the slot to look at first. */
const NEXT_DOMID = 0;
const NEXT_INCARNATION = 1;
const NEXT_SLOT = 2;

const isMmLevel = (name: LockName): boolean => lockLevel[name] >= 8 && lockLevel[name] <= 64;

function declareLocks(config: HostConfig): LockDeclaration[] {
  const all: LockDeclaration[] = GLOBAL_LOCKS.map((name) => ({ name, scope: -1, bias: 0 }));
  for (let slot = 0; slot < config.maxDomains; slot++) {
    // Slot 0 is dom0, the control domain.
    for (const name of DOMAIN_LOCKS)
      all.push({ name, scope: slot, bias: slot === 0 && isMmLevel(name) ? CONTROL_DOMAIN_BIAS : 0 });
  }
  for (const unit of config.units) for (const name of UNIT_LOCKS) all.push({ name, scope: unit.id, bias: 0 });
  for (const index of config.devices.keys()) for (const name of DEVICE_LOCKS) all.push({ name, scope: index, bias: 0 });
  return all;
}

/** Arrays of the frame table begin at aligned offsets when their length is a multiple of a 2M chunk. */
const roundedFrames = (config: HostConfig): number => Math.ceil(config.frames / 1024) * 1024;

/** CPUs that attach: pCPUs, DMA threads, and the process's main thread (boot, safepoints, reading counters). */
export const cpuCount = (config: HostConfig): number => config.pcpus + config.dmaThreads + 1;
export const dmaCpu = (config: HostConfig, thread: number): number => config.pcpus + thread;
export const mainCpu = (config: HostConfig): number => config.pcpus + config.dmaThreads;

/** Allocates a host's memory (lazily committed, all zero) and gives its RAM to the heap. */
export function createHost(described: HostConfig): HostShared {
  const { config, lines: dmarLines } = parseDmar(described);
  const cpus = cpuCount(config);
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(Math.ceil(bytes / 8) * 8);
  const host: HostShared = {
    config,
    dmarLines,
    buffers: {
      panic: shared(PanicCell.bytes()),
      locks: shared(LockTable.bytes(declareLocks(config).length, cpus)),
      counters: shared(Counters.bytes(cpus)),
      frames: shared(FrameTable.bytes(roundedFrames(config))),
      heap: shared(Heap.bytes()),
      tables: shared(TablePages.bytes(config.tablePages)),
      domains: shared(domainRecord.bytes(config.maxDomains)),
      slots: shared(12),
      tlbs: shared(CpuTlbs.bytes(cpus)),
      iommu: shared(IommuState.bytes(config)),
      devices: shared(DeviceQueues.bytes(config)),
      grants: shared(GrantTables.bytes(config)),
      pvIommu: shared(PvIommuState.bytes(config)),
      gpus: shared(GpuMemory.bytes(config)),
    },
  };
  return host;
}

export class Host {
  readonly shared: HostShared;
  readonly config: HostConfig;
  readonly cpu: number;
  readonly platform: Platform;
  readonly panicCell: PanicCell;
  readonly lockTable: LockTable;
  readonly counters: Counters;
  readonly frames: FrameTable;
  readonly heap: Heap;
  readonly tables: TablePages;
  readonly tlbs: CpuTlbs;
  readonly iommu: IommuState;
  readonly devices: DeviceQueues;
  readonly grants: GrantTables;
  readonly pvIommu: PvIommuState;
  readonly gpus: GpuMemory;
  /** Whose call this CPU executes right now (Xen's `current`); set by the dispatcher, null while idle. */
  current: Domain | null = null;
  currentVcpu = 0;
  /** Whether the running call should end its slice (Xen's hypercall_preempt_check); set by the dispatcher. */
  preemptPending: () => boolean = () => false;
  readonly domctlLock: Mutex;
  readonly pcidevsLock: Mutex;
  readonly pvIommuLock: Mutex;
  private readonly domainListLock: Mutex;
  private readonly domains: Domain[] = [];
  private readonly ids: Int32Array<SharedArrayBuffer>;
  private readonly lockIds = new Map<string, number>();

  constructor(shared: HostShared, cpu: number, platform: Platform) {
    const { config, buffers } = shared;
    this.shared = shared;
    this.config = config;
    this.cpu = cpu;
    this.platform = platform;
    const declarations = declareLocks(config);
    for (const [id, { name, scope }] of declarations.entries()) this.lockIds.set(`${name}/${scope}`, id);
    this.panicCell = new PanicCell(buffers.panic);
    this.lockTable = new LockTable(buffers.locks, declarations, cpu, this.panicCell);
    this.counters = new Counters(buffers.counters, cpu);
    // The arrays of the frame table are laid out for a rounded length; the limit that counts is config.frames.
    this.frames = new FrameTable(buffers.frames, roundedFrames(config));
    this.heap = new Heap(buffers.heap, this.frames, this.mutex('heap'));
    this.tables = new TablePages(buffers.tables, config.tablePages, this.mutex('tablePages'));
    this.tlbs = new CpuTlbs(buffers.tlbs, cpuCount(config));
    this.domctlLock = this.mutex('domctl');
    this.pcidevsLock = this.mutex('pcidevs', -1, true);
    this.pvIommuLock = this.mutex('pvIommu');
    this.domainListLock = this.mutex('domainList');
    this.ids = new Int32Array(buffers.slots);
    for (let slot = 0; slot < config.maxDomains; slot++) {
      this.domains.push(
        new Domain(slot, buffers.domains, config.maxDomains, this.frames, {
          p2m: new RwLock(this.lockTable, this.lockId('p2m', slot)),
          pod: this.mutex('pod', slot, true),
          pageAlloc: this.mutex('pageAlloc', slot),
          paging: this.mutex('paging', slot, true),
          pci: this.mutex('pci', slot),
          grantTable: new RwLock(this.lockTable, this.lockId('grantTable', slot)),
          grantActive: this.mutex('grantActive', slot),
          grantMaptrack: this.mutex('grantMaptrack', slot),
          iommuMapping: this.mutex('iommuMapping', slot, true),
        }),
      );
    }
    this.iommu = new IommuState(buffers.iommu, config, (unit) => ({
      context: this.mutex('iommuContext', unit, true),
      register: this.mutex('iommuRegister', unit),
    }));
    this.grants = new GrantTables(buffers.grants, config);
    this.pvIommu = new PvIommuState(buffers.pvIommu, config);
    this.gpus = new GpuMemory(buffers.gpus, config, this.frames);
    this.devices = new DeviceQueues(buffers.devices, config, (device) => this.mutex('deviceQueue', device));
  }

  private lockId(name: LockName, scope = -1): number {
    const id = this.lockIds.get(`${name}/${scope}`);
    if (id === undefined) throw new Error(`lock ${name}/${scope} is not declared`);
    return id;
  }

  private mutex(name: LockName, scope = -1, recursive = false): Mutex {
    return new Mutex(this.lockTable, this.lockId(name, scope), recursive);
  }

  panic(text: string): never {
    this.platform.printk(`Panic on CPU ${this.cpu}: ${text}`);
    return this.panicCell.panic(text);
  }

  /** A programmer's mistake stops the host, as Xen's ASSERT. */
  assert(condition: boolean, what: string): asserts condition {
    if (!condition) this.panic(`Assertion failed: ${what}`);
  }

  get dom0(): Domain {
    return this.slot(0);
  }

  /** A domain by its slot, whether alive or not. */
  slot(index: number): Domain {
    const d = this.domains[index];
    if (!d) throw new Error(`no domain slot ${index}`);
    return d;
  }

  /** The domain of that number, if it exists (building, alive, dying or zombie). */
  domain(id: Domid | number): Domain | null {
    for (const d of this.domains) if (d.exists && d.r.domid === id) return d;
    return null;
  }

  allDomains(): Domain[] {
    return this.domains.filter((d) => d.exists);
  }

  /**
   * A free slot with a number: `wanted`, or the next unused one when 0 (as Xen's createdomain). The record is cleared.
   * null: no slot left. 'exists': the number is taken.
   */
  claimSlot(wanted: number, isHardware: boolean): Domain | 'exists' | null {
    this.domainListLock.lock();
    try {
      if (wanted !== 0 && this.domain(wanted)) return 'exists';
      const d = isHardware ? this.dom0 : this.nextSlot();
      if (!d) return null;
      let id = isHardware ? 0 : wanted;
      if (id === 0 && !isHardware) {
        id = (this.ids[NEXT_DOMID] as number) || 1;
        while (this.domain(id)) id = id + 1 >= DOMID_IO - 1 ? 1 : id + 1;
        this.ids[NEXT_DOMID] = id + 1;
      }
      d.r.words.fill(0);
      d.r.doubles.fill(0);
      for (const name of DOMAIN_LOCKS) this.lockTable.resetProfile(this.lockId(name, d.slot));
      this.ids[NEXT_INCARNATION] = (this.ids[NEXT_INCARNATION] as number) + 1;
      d.r.domid = id;
      d.r.incarnation = this.ids[NEXT_INCARNATION] as number;
      Atomics.store(d.r.words, domainRecord.at.state, domainState.building);
      return d;
    } finally {
      this.domainListLock.unlock();
    }
  }

  /** In turn, so that what a dead domain leaves in its slot (its lock profile) can be read for a while. Slot 0 is dom0's. */
  private nextSlot(): Domain | null {
    const guests = this.config.maxDomains - 1;
    for (let i = 0; i < guests; i++) {
      const slot = (((this.ids[NEXT_SLOT] as number) + i) % guests) + 1;
      const d = this.slot(slot);
      if (d.exists) continue;
      this.ids[NEXT_SLOT] = slot % guests;
      return d;
    }
    return null;
  }

  /** The profile of all locks; a domain's are given by its number, also when it is dead and nobody has its slot yet. */
  lockProfile(): LockRow[] {
    const ofDomains: ReadonlySet<string> = new Set(DOMAIN_LOCKS);
    return this.lockTable.profile().flatMap((row) => {
      if (!ofDomains.has(row.name)) return [row];
      const d = this.slot(row.scope);
      const shown = d.exists || (d.r.incarnation > 0 && this.domain(d.r.domid) === null);
      return shown ? [{ ...row, scope: d.r.domid }] : [];
    });
  }

  /** The last reference to a dead domain is gone: its number may be used again. */
  releaseSlot(d: Domain): void {
    Atomics.store(d.r.words, domainRecord.at.state, domainState.free);
  }
}
