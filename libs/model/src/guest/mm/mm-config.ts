// The shared memory of one kernel's memory management: one address space, its page frames in RAM and in a GPU's memory, the
// subscriptions of its drivers. `createMm` allocates, every task (a thread of the kernel) then attaches with its number.
import type { Violation } from '../../host.ts';
import type { LockDeclaration } from '../../shared-memory/lock-table.ts';
import { LockTable } from '../../shared-memory/lock-table.ts';
import { PanicCell } from '../../shared-memory/panic.ts';
import { fenceBytes } from './fence.ts';
import { frameBytes, initFrames, type PoolSizes } from './frame-pools.ts';
import { initNotifiers, notifierBytes } from './notifiers.ts';
import { pageTableBytes } from './page-table.ts';
import type { Sequence } from './sequence.ts';
import { vmaBytes } from './vma.ts';
import { WaitGraph } from './wait-graph.ts';

export interface MmConfig {
  /** Threads of the kernel, by number: system calls, reclaim, workers, vCPU threads, and the engines of its devices. */
  readonly tasks: readonly string[];
  /** Pages of the address space. */
  readonly pages: number;
  readonly frames: PoolSizes;
  /** Drivers that subscribe, by number; each has a lock. */
  readonly drivers: readonly string[];
  /** KVM machines; each has an mmu_lock. */
  readonly machines: number;
  /** Where the notifier sequence begins; Linux begins at 2. */
  readonly firstSequence: Sequence;
}

export interface MmShared {
  readonly config: MmConfig;
  readonly buffers: Readonly<
    Record<'panic' | 'locks' | 'waits' | 'pageTable' | 'frames' | 'vmas' | 'notifiers' | 'fences', SharedArrayBuffer>
  >;
}

/** What this kernel says to the process around it. */
export interface MmPlatform {
  violation(v: Violation): void;
}

export const defaultMm: MmConfig = {
  tasks: ['task'],
  pages: 64,
  frames: { ram: 64, vram: 64, slot: 0 },
  drivers: [],
  machines: 0,
  firstSequence: { lo: 2, hi: 0 },
};

/** Lock numbers: mmap, notifiers, page table, frames, then one per driver, then one per machine. */
export const mmLock = { mmap: 0, notifiers: 1, pageTable: 2, frames: 3, drivers: 4 } as const;

export function mmLocks(config: MmConfig): readonly LockDeclaration[] {
  const one = (name: LockDeclaration['name'], scope = -1): LockDeclaration => ({ name, scope, bias: 0 });
  return [
    one('guestMmap'),
    one('guestNotifiers'),
    one('guestPageTable'),
    one('guestFrames'),
    ...config.drivers.map((_, driver) => one('guestDriver', driver)),
    ...Array.from({ length: config.machines }, (_, machine) => one('guestKvmMmu', machine)),
  ];
}

/** A kernel with all memory free and nothing mapped. */
export function createMm(config: MmConfig): MmShared {
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(Math.ceil(bytes / 8) * 8);
  const result: MmShared = {
    config,
    buffers: {
      panic: shared(PanicCell.bytes()),
      locks: shared(LockTable.bytes(mmLocks(config).length, config.tasks.length)),
      waits: shared(WaitGraph.bytes(config.tasks.length)),
      pageTable: shared(pageTableBytes(config.pages)),
      frames: shared(frameBytes(config.frames)),
      vmas: shared(vmaBytes()),
      notifiers: shared(notifierBytes(config.tasks.length)),
      fences: shared(fenceBytes()),
    },
  };
  initFrames(result.buffers.frames, config.frames);
  initNotifiers(result.buffers.notifiers, config.firstSequence);
  return result;
}

/** All of it as new: another process, in a kernel that has let go of the one before. None of its tasks may be at work. */
export function renewMm({ config, buffers }: MmShared): void {
  for (const buffer of Object.values(buffers)) new Uint8Array(buffer).fill(0);
  initFrames(buffers.frames, config.frames);
  initNotifiers(buffers.notifiers, config.firstSequence);
}
