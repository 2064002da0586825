// The same memory without Xen: a KVM virtual machine whose RAM is the address space of a process (kvm_main.c, mmu.c). Stage 2 is
// filled on fault and emptied by the kernel's own invalidation; nobody lends and nobody pins. A vCPU is a thread that touches
// guest frames and takes the exits itself.

import type { Mm } from '../guest/mm/mm.ts';
import type { NotifierRange, RangeOps } from '../guest/mm/notifiers.ts';
import { lookUpPage } from '../guest/mm/page-lookup.ts';
import { SecondaryTable, secondaryBytes } from '../guest/mm/secondary-table.ts';
import {
  nextSequence,
  SEQUENCE_WORDS,
  type Sequence,
  SequenceCell,
  sameSequence,
  sequenceText,
  throughInt32,
} from '../guest/mm/sequence.ts';
import { errno } from '../hypercall/errno.ts';
import { step, stepKind } from '../shared-memory/step.ts';

export interface KvmConfig {
  /** Which of the kernel's machines: its mmu_lock. */
  readonly machine: number;
  /** One memory slot: guest frames from `gfn` on show pages from `page` on. */
  readonly slot: { readonly gfn: number; readonly page: number; readonly count: number };
  readonly vcpus: number;
  /** `int32`: the bug by which the snapshot went through a signed 32-bit variable. */
  readonly snapshot: '64' | 'int32';
  readonly retryCheck: 'under-lock' | 'missing';
}

/** After the sequence: invalidations under way, and the union of their ranges, in pages [start, end). */
const IN_PROGRESS = SEQUENCE_WORDS;
const RANGE_START = IN_PROGRESS + 1;
const RANGE_END = IN_PROGRESS + 2;
const STATE_WORDS = IN_PROGRESS + 3;

export const kvmBytes = ({ slot, vcpus }: KvmConfig): number => STATE_WORDS * 4 + secondaryBytes(slot.count, vcpus);

/** A new machine's memory; `first`: where its invalidation sequence begins. */
export function createKvm(config: KvmConfig, first: Sequence = { lo: 0, hi: 0 }): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(kvmBytes(config));
  new SequenceCell(new Int32Array(buffer), 0).write(first);
  return buffer;
}

export class KvmMachine implements RangeOps {
  readonly name: string;
  readonly stage2: SecondaryTable;
  /** Exits for a missing stage-2 entry, and those told to retry, of this task. */
  faults = 0;
  retries = 0;
  private readonly mm: Mm;
  private readonly config: KvmConfig;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly sequence: SequenceCell;

  constructor(mm: Mm, buffer: SharedArrayBuffer, config: KvmConfig) {
    const { slot, vcpus, machine } = config;
    this.mm = mm;
    this.config = config;
    this.name = `kvm${machine}`;
    this.words = new Int32Array(buffer, 0, STATE_WORDS);
    this.sequence = new SequenceCell(this.words, 0);
    this.stage2 = new SecondaryTable(mm, buffer, STATE_WORDS * 4, {
      name: `a vCPU of ${this.name}`,
      entries: slot.count,
      accessors: vcpus,
      pageOf: (entry) => slot.page + entry,
    });
    mm.notifiers.registerRange(this);
  }

  get vcpus(): number {
    return this.config.vcpus;
  }
  get firstGfn(): number {
    return this.config.slot.gfn;
  }

  get invalidateSequence(): Sequence {
    return this.sequence.read();
  }

  private get mmuLock(): Mm['machineLocks'][number] {
    const lock = this.mm.machineLocks[this.config.machine];
    if (!lock) throw new Error(`this kernel has no machine ${this.config.machine}`);
    return lock;
  }

  /** kvm_mmu_notifier_invalidate_range_start: never refuses, spins at most. */
  start({ start, end }: NotifierRange): number {
    this.mmuLock.lock();
    const others = Atomics.add(this.words, IN_PROGRESS, 1);
    this.words[RANGE_START] = others === 0 ? start : Math.min(this.words[RANGE_START] as number, start);
    this.words[RANGE_END] = others === 0 ? end : Math.max(this.words[RANGE_END] as number, end);
    const { page, count } = this.config.slot;
    const first = Math.max(0, start - page);
    if (this.stage2.zap(first, Math.min(count, end - page))) this.stage2.flush();
    this.mmuLock.unlock();
    return 0;
  }

  /** kvm_mmu_notifier_invalidate_range_end: the sequence first, so that a reader sees one of the two. */
  end(): void {
    this.mmuLock.lock();
    this.sequence.write(nextSequence(this.sequence.read()));
    Atomics.sub(this.words, IN_PROGRESS, 1);
    this.mmuLock.unlock();
  }

  /**
   * One access of guest code to a guest frame, with the exits it takes. 0 with the content in `stage2.tag`; -EFAULT: no such
   * memory, an exit to user space; -EAGAIN: a fault that would be retried for ever (and a violation says so).
   */
  access(vcpu: number, gfn: number, write: boolean, tag = 0): number {
    const { slot } = this.config;
    const entry = gfn - slot.gfn;
    if (entry < 0 || entry >= slot.count) return -errno.EFAULT;
    step(stepKind.guestAccess, gfn);
    while (!this.stage2.access(vcpu, entry, write, tag)) {
      const rc = this.handleFault(entry, write);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /** kvm_tdp_page_fault: 0 if the guest may try again, be it because the entry is there or because it has to. */
  private handleFault(entry: number, write: boolean): number {
    const { snapshot, retryCheck, slot } = this.config;
    this.faults++;
    // A fault may be told to retry for as long as an invalidation lasts; in a kernel that has stopped it lasts for ever.
    this.mm.panicCell.check();
    step(stepKind.read, entry);
    const truth = this.sequence.read();
    const begun = snapshot === 'int32' ? throughInt32(truth) : truth;
    const found = lookUpPage(this.mm, slot.page + entry, write);
    if (found.rc !== 0) return found.rc;
    this.mmuLock.lock();
    const stale = this.isStale(slot.page + entry, begun);
    if (stale && retryCheck === 'under-lock') {
      const idle = Atomics.load(this.words, IN_PROGRESS) === 0 && sameSequence(this.sequence.read(), truth);
      this.mmuLock.unlock();
      this.retries++;
      return idle ? this.livelock(entry, begun, truth) : 0;
    }
    if (stale) this.judgeStale(entry, begun);
    this.stage2.map(entry, found.frame, found.writable);
    this.mmuLock.unlock();
    return 0;
  }

  /** mmu_invalidate_retry_gfn. Under mmu_lock. */
  private isStale(page: number, begun: Sequence): boolean {
    const running = Atomics.load(this.words, IN_PROGRESS) > 0;
    const inRange = page >= (this.words[RANGE_START] as number) && page < (this.words[RANGE_END] as number);
    return (running && inRange) || !sameSequence(this.sequence.read(), begun);
  }

  private livelock(entry: number, begun: Sequence, truth: Sequence): number {
    const text =
      `${this.name}: the fault at gfn ${this.config.slot.gfn + entry} compares ${sequenceText(begun)} with ` +
      `${sequenceText(truth)} and retries, though nothing was invalidated`;
    this.mm.platform.violation({ invariant: 'faultMakesProgress', text, evidence: { entry } });
    return -errno.EAGAIN;
  }

  private judgeStale(entry: number, begun: Sequence): void {
    const text = `${this.name}: gfn ${this.config.slot.gfn + entry} is mapped with a page found at sequence ${sequenceText(begun)}`;
    this.mm.platform.violation({ invariant: 'noMappingWithStaleSequence', text, evidence: { entry } });
  }
}
