// The host's memory, and the main thread's view of it. The main thread boots the host, reads counters and peeks; it runs no call.
import { Inject, Injectable } from '@nestjs/common';
import { bootHost } from '#model/boot/boot-host';
import type { Domain } from '#model/domain/domain';
import { newsSeen } from '#model/gpu/requests';
import { cpuCount, createHost, type Host, type HostShared, mainCpu } from '#model/host';
import { eventsSeen } from '#model/lending/window';
import { LockLog } from '#model/shared-memory/lock-log';
import { HostPanic } from '#model/shared-memory/panic';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import type { VcpuId } from './run-queue.ts';
import { SharedWords } from './shared-words.ts';
import { attachThread, ReportBuffer } from './thread-setup.ts';

const FRAMES_PER_MIB = 256;

@Injectable()
export class HostService {
  readonly shared: HostShared;
  readonly wordsBuffer: SharedArrayBuffer;
  /** What every thread does with locks, while somebody looks. */
  readonly lockLog: SharedArrayBuffer;
  readonly words: SharedWords;
  readonly reports: ReportBuffer;
  readonly host: Host;
  private readonly config: HypervisorConfig;

  constructor(@Inject(HYPERVISOR_CONFIG) config: HypervisorConfig) {
    this.config = config;
    this.shared = createHost(config.host);
    this.wordsBuffer = SharedWords.create(config.host.pcpus + config.host.dmaThreads);
    this.words = new SharedWords(this.wordsBuffer);
    this.lockLog = new SharedArrayBuffer(LockLog.bytes(cpuCount(config.host)));
    this.reports = new ReportBuffer(this.words);
    // No fault is injected into the main thread: it stands for no CPU.
    this.host = attachThread(this.shared, mainCpu(config.host), [], this.reports, this.lockLog);
  }

  /** RAM to the heap, devices, dom0. */
  boot(): void {
    const { memoryMb, vcpus } = this.config.dom0;
    bootHost(this.host, { memoryPages: memoryMb * FRAMES_PER_MIB, vcpus });
  }

  /** Wakes the DMA threads, which sleep on the device queues' doorbells. */
  ringDevices(): void {
    const { doorbells } = this.host.devices;
    for (let thread = 0; thread < doorbells.length; thread++) {
      Atomics.add(doorbells, thread, 1);
      Atomics.notify(doorbells, thread);
    }
  }

  /** Everything that waits in the model stops. Answers the text of the first panic. */
  stopModel(text: string): string {
    try {
      this.host.panicCell.panic(text);
    } catch (error) {
      if (!(error instanceof HostPanic)) throw error;
    }
    return this.host.panicCell.message() ?? text;
  }

  /** The domain of a vCPU, if it is that incarnation. */
  domainOf({ domid, incarnation }: Pick<VcpuId, 'domid' | 'incarnation'>): Domain | null {
    const d = this.host.domain(domid);
    return d && d.r.incarnation === incarnation ? d : null;
  }

  /**
   * pCPU time of a vCPU: its hypercalls and its accesses to memory. What its kernel computes runs in a process of the guest's
   * own, which nobody believes about time. Only the main thread writes the figure, so no time is lost between pCPUs.
   */
  account(vcpu: VcpuId, us: number): void {
    const d = this.domainOf(vcpu);
    if (d) d.r.cpuTimeUs += us;
  }

  /** What a vCPU that waits for lent memory compares. */
  lendEvents(domid: number): number {
    const d = this.host.domain(domid);
    return d ? eventsSeen(d) : -1;
  }

  /** What a vCPU that waits for a shared GPU, or for its mediator, compares. */
  gpuNews(index: number): number {
    const gpu = this.host.gpus.all[index];
    return gpu ? newsSeen(gpu) : -1;
  }

  /** May a vCPU of it run now? */
  gate(vcpu: VcpuId): 'run' | 'hold' | 'gone' {
    const d = this.domainOf(vcpu);
    if (!d || d.dying || d.crashed) return 'gone';
    return d.r.pauseCount > 0 ? 'hold' : 'run';
  }
}
