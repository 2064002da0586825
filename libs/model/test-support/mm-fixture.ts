// A kernel whose tasks are real threads (mm-worker.ts): churners that move and take pages, submitters and engines of a GPU, vCPUs
// of a KVM machine. Violations are counted by name in shared words.
import { Worker } from 'node:worker_threads';
import { Mm } from '#model/guest/mm/mm';
import { createMm, defaultMm, type MmConfig, type MmPlatform, type MmShared } from '#model/guest/mm/mm-config';
import { Userptr } from '#model/guest/mm/userptr';
import { type UserptrConfig, userptrBytes } from '#model/guest/mm/userptr-state';
import type { Violation } from '#model/host';
import { eventInvariants } from '#model/invariants/events';
import { createKvm, type KvmConfig, KvmMachine } from '#model/kvm/machine';

const names = Object.keys(eventInvariants);
/** `stop`: 1 all but engines, 2 all. */
export const mmWord = { stop: 0, ready: 1, rounds: 2, errors: 3, idle: 4, first: 5 } as const;

export type MmRole = 'churn' | 'file-churn' | 'reap' | 'submit' | 'engine' | 'vcpu' | 'munmap';

export interface KernelShared {
  readonly mm: MmShared;
  readonly userptr: { readonly buffer: SharedArrayBuffer; readonly config: UserptrConfig } | null;
  readonly kvm: { readonly buffer: SharedArrayBuffer; readonly config: KvmConfig } | null;
  readonly control: SharedArrayBuffer;
}

export interface MmWork {
  readonly kernel: KernelShared;
  readonly task: number;
  readonly role: MmRole;
  readonly first: number;
  readonly count: number;
  readonly seed: number;
}

/** A platform that counts violations where all threads can see them. */
export function counting(control: SharedArrayBuffer, seen: Violation[] = []): MmPlatform {
  const words = new Int32Array(control);
  return {
    violation: (v) => {
      seen.push(v);
      Atomics.add(words, mmWord.first + names.indexOf(v.invariant), 1);
    },
  };
}

export interface View {
  readonly mm: Mm;
  readonly userptr: Userptr | null;
  readonly kvm: KvmMachine | null;
}

/** The same in every task: all drivers attach. */
export function attach(kernel: KernelShared, task: number, platform: MmPlatform): View {
  const mm = new Mm(kernel.mm, task, platform);
  return {
    mm,
    userptr: kernel.userptr && new Userptr(mm, kernel.userptr.buffer, kernel.userptr.config),
    kvm: kernel.kvm && new KvmMachine(mm, kernel.kvm.buffer, kernel.kvm.config),
  };
}

export class Kernel {
  readonly shared: KernelShared;
  readonly seen: Violation[] = [];
  /** Task 0, this thread. */
  readonly view: View;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly ended: Promise<void>[] = [];
  private readonly engines: Promise<void>[] = [];

  constructor(config: Partial<MmConfig>, userptr: UserptrConfig | null = null, kvm: KvmConfig | null = null) {
    const control = new SharedArrayBuffer((mmWord.first + names.length) * 4);
    this.words = new Int32Array(control);
    this.shared = {
      mm: createMm({ ...defaultMm, ...config }),
      userptr: userptr && { buffer: new SharedArrayBuffer(userptrBytes(userptr)), config: userptr },
      kvm: kvm && { buffer: createKvm(kvm), config: kvm },
      control,
    };
    this.view = attach(this.shared, 0, counting(control, this.seen));
  }

  get mm(): Mm {
    return this.view.mm;
  }
  get userptr(): Userptr {
    if (!this.view.userptr) throw new Error('this kernel has no userptr driver');
    return this.view.userptr;
  }
  get kvm(): KvmMachine {
    if (!this.view.kvm) throw new Error('this kernel has no machine');
    return this.view.kvm;
  }

  /** How often an event invariant was violated, by anybody. */
  violations(name: keyof typeof eventInvariants): number {
    return Atomics.load(this.words, mmWord.first + names.indexOf(name));
  }
  /** Names of all that were violated. */
  get violated(): string[] {
    return names.filter((_, i) => Atomics.load(this.words, mmWord.first + i) > 0);
  }
  get rounds(): number {
    return Atomics.load(this.words, mmWord.rounds);
  }
  get errors(): number {
    return Atomics.load(this.words, mmWord.errors);
  }

  async start(work: Omit<MmWork, 'kernel'>): Promise<void> {
    const before = Atomics.load(this.words, mmWord.ready);
    const worker = new Worker(new URL('./mm-worker.ts', import.meta.url), {
      workerData: { ...work, kernel: this.shared } satisfies MmWork,
      execArgv: ['--conditions=source'],
    });
    const ended = new Promise<void>((resolve, reject) => {
      worker.once('exit', () => resolve());
      worker.once('error', reject);
    });
    (work.role === 'engine' ? this.engines : this.ended).push(ended);
    const ready = Atomics.waitAsync(this.words, mmWord.ready, before);
    await Promise.race([ready.async ? ready.value : null, ended]);
  }

  /** Lets the threads work until `done`, at most `ms`. */
  async runUntil(done: () => boolean, ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** Engines last: the others may wait for their fences. */
  async stop(): Promise<void> {
    Atomics.store(this.words, mmWord.stop, 1);
    await Promise.all(this.ended);
    Atomics.store(this.words, mmWord.stop, 2);
    await Promise.all(this.engines);
  }
}
