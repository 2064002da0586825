// One kernel's memory management as one of its tasks sees it: a view of the shared memory that mm-config.ts allocates. What
// one does with it is in the files beside this one, each an operation: faults.ts, unmap.ts, migration.ts, write-back.ts, gup.ts.
import { Mutex } from '../../shared-memory/mutex.ts';
import { PanicCell } from '../../shared-memory/panic.ts';
import { RwLock } from '../../shared-memory/rwlock.ts';
import { Fences } from './fence.ts';
import { type FrameContent, FramePools } from './frame-pools.ts';
import { KernelLocks } from './kernel-locks.ts';
import { type MmConfig, type MmPlatform, type MmShared, mmLock, mmLocks } from './mm-config.ts';
import { Notifiers } from './notifiers.ts';
import { migratingTask, PageTable, pte } from './page-table.ts';
import { SecondaryTable } from './secondary-table.ts';
import { Vmas } from './vma.ts';
import { WaitGraph, waitKind, waitNode } from './wait-graph.ts';

export class Mm {
  readonly config: MmConfig;
  readonly platform: MmPlatform;
  /** Number of this task. */
  readonly task: number;
  readonly panicCell: PanicCell;
  readonly graph: WaitGraph;
  readonly locks: KernelLocks;
  /** mmap_lock. */
  readonly mmap: RwLock;
  readonly pageTableLock: Mutex;
  readonly pageTable: PageTable;
  readonly frames: FramePools;
  readonly vmas: Vmas;
  readonly notifiers: Notifiers;
  readonly fences: Fences;
  /** One per driver: what its callback takes. */
  readonly driverLocks: readonly Mutex[];
  /** One per KVM machine: its mmu_lock. */
  readonly machineLocks: readonly Mutex[];
  /** Who keeps copies of the page table, for the invariants. */
  readonly secondaries: SecondaryTable[] = [];

  /** `content`: where the frames' contents are, if not in the kernel's own words. */
  constructor(shared: MmShared, task: number, platform: MmPlatform, content: FrameContent | null = null) {
    const { config, buffers } = shared;
    this.config = config;
    this.platform = platform;
    this.task = task;
    this.panicCell = new PanicCell(buffers.panic);
    this.graph = new WaitGraph(buffers.waits, config.tasks);
    const declarations = mmLocks(config);
    const report = platform.violation.bind(platform);
    this.locks = new KernelLocks(buffers.locks, declarations, task, this.panicCell, this.graph, report);
    const mutex = (lock: number): Mutex => new Mutex(this.locks, lock);
    this.mmap = new RwLock(this.locks, mmLock.mmap);
    this.pageTableLock = mutex(mmLock.pageTable);
    this.pageTable = new PageTable(buffers.pageTable, config.pages);
    this.frames = new FramePools(buffers.frames, config.frames, mutex(mmLock.frames), this.locks, this.graph, content);
    this.vmas = new Vmas(buffers.vmas);
    const { tasks } = config;
    const notifierLock = mutex(mmLock.notifiers);
    this.notifiers = new Notifiers(buffers.notifiers, tasks.length, notifierLock, this.locks, this.graph, platform);
    this.fences = new Fences(buffers.fences, this.locks, this.graph);
    this.driverLocks = config.drivers.map((_, driver) => mutex(mmLock.drivers + driver));
    const firstMachine = mmLock.drivers + config.drivers.length;
    this.machineLocks = Array.from({ length: config.machines }, (_, machine) => mutex(firstMachine + machine));
    this.graph.register(waitKind.window, {
      nameOf: (id) => SecondaryTable.windowName(this.secondaries, id),
      holders: (id) => SecondaryTable.windowHolders(this.secondaries, id),
    });
    this.graph.register(waitKind.migration, {
      nameOf: (page) => `the migration of page ${page}`,
      holders: (page) => {
        const entry = this.pageTable.peek(page);
        return isMigrating(entry) ? [{ to: waitNode(waitKind.task, migratingTask(entry)), why: 'is done by' }] : [];
      },
    });
  }

  driverLock(driver: number): Mutex {
    const lock = this.driverLocks[driver];
    if (!lock) throw new Error(`this kernel has no driver ${driver}`);
    return lock;
  }

  /** Sleeps until the page is where it is going to be. */
  waitForMigration(page: number): void {
    const { moved } = this.pageTable;
    const ready = (): boolean => !isMigrating(this.pageTable.peek(page));
    this.locks.waitFor(waitNode(waitKind.migration, page), moved, 0, ready);
  }
}

const isMigrating = (entry: number): boolean => (entry & pte.migrating) !== 0;
