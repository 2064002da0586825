// The pCPU and DMA threads: starts them, carries messages between them and the run queue, and notices when one dies, which ends
// the host. It schedules nothing and decides nothing.
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Inject, Injectable } from '@nestjs/common';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import type { FromDma } from './dma/dma-messages.ts';
import { HostService } from './host.service.ts';
import { PanicService } from './panic.service.ts';
import { type FromPcpu, packItems, unpackResults, type WorkItem } from './pcpu/work.ts';
import { RunQueue } from './run-queue.ts';
import { TelemetryService } from './telemetry.service.ts';
import type { ModelThreadData } from './thread-entry.ts';

/** Threads that do not end by themselves within this time are terminated. */
const STOP_MS = 300;
const WITNESS_MS = 200;

@Injectable()
export class ThreadPoolService {
  private readonly config: HypervisorConfig;
  private readonly host: HostService;
  private readonly telemetry: TelemetryService;
  private readonly panic: PanicService;
  private readonly threads: Worker[] = [];
  private stopping = false;
  readonly runQueue: RunQueue;

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(HostService) host: HostService,
    @Inject(TelemetryService) telemetry: TelemetryService,
    @Inject(PanicService) panic: PanicService,
  ) {
    this.config = config;
    this.host = host;
    this.telemetry = telemetry;
    this.panic = panic;
    this.runQueue = new RunQueue({
      ports: Array.from({ length: config.host.pcpus }, (_, cpu) => ({ send: (items) => this.send(cpu, items) })),
      gate: (vcpu) => host.gate(vcpu),
      later: (flush) => setImmediate(flush),
      publishLoad: (waiting, idle) => host.words.publishLoad(waiting, idle),
      lendEvents: (domid) => host.lendEvents(domid),
      gpuNews: (gpu) => host.gpuNews(gpu),
      account: (vcpu, us) => host.account(vcpu, us),
    });
  }

  /** Settles when all threads run. */
  async start(): Promise<void> {
    const { pcpus, dmaThreads } = this.config.host;
    const { shared, wordsBuffer, lockLog } = this.host;
    const { faultPlan: plan, record } = this.config;
    const common = { shared, words: wordsBuffer, lockLog, plan, record };
    for (let cpu = 0; cpu < pcpus; cpu++) {
      const data: ModelThreadData = { ...common, index: cpu };
      this.spawn('pcpu/pcpu-thread', data, `CPU ${cpu}`, (message: FromPcpu) => this.fromPcpu(cpu, message));
    }
    for (let thread = 0; thread < dmaThreads; thread++) {
      const data: ModelThreadData = { ...common, index: thread };
      this.spawn('dma/dma-thread', data, `DMA thread ${thread}`, (message: FromDma) => this.fromDma(thread, message));
    }
    await Promise.all(this.threads.map((worker) => new Promise<void>((resolve) => worker.once('online', resolve))));
  }

  /** Ends all threads: they leave between calls and bursts, or are terminated. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.host.words.stopAll();
    this.host.ringDevices();
    await Promise.all(this.threads.map(stopThread));
  }

  private spawn<M>(file: string, workerData: ModelThreadData, name: string, onMessage: (message: M) => void): void {
    const entry = new URL(`./${file}${extname(import.meta.url)}`, import.meta.url);
    const worker = new Worker(entry, { workerData, name, stdin: false });
    worker.on('message', onMessage);
    worker.on('error', (error) => {
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      this.died(name, message, stack ?? '');
    });
    worker.on('exit', () => this.died(name, `${name} ended`, ''));
    this.threads.push(worker);
  }

  private died(name: string, text: string, stack: string): void {
    if (this.stopping) return;
    // A thread that only found the host dead says so too; the one that panicked is to be named.
    if (stack.includes('PanicCell.check')) setTimeout(() => this.panic.panic(name, text, stack), WITNESS_MS);
    else this.panic.panic(name, text, stack);
  }

  private send(cpu: number, items: readonly WorkItem[]): void {
    (this.threads[cpu] as Worker).postMessage(packItems(items)); // ports exist for started threads only
    this.host.words.ring(cpu, true);
  }

  private fromPcpu(cpu: number, message: FromPcpu): void {
    this.telemetry.take(message);
    if (message.spans) this.telemetry.spans(message.spans);
    if (message.panic) this.died(`CPU ${cpu}`, message.panic.text, message.panic.stack);
    else if (message.results) this.runQueue.finished(cpu, unpackResults(message.results));
  }

  private fromDma(thread: number, message: FromDma): void {
    this.telemetry.take(message);
    if (message.jobs) this.telemetry.jobs(message.jobs);
    if (message.faults) this.telemetry.faults(message.faults);
    if (message.panic) this.died(`DMA thread ${thread}`, message.panic.text, message.panic.stack);
    if (message.gpuNews) this.runQueue.retryNews();
    for (const { sbdf, job } of message.finished ?? []) this.runQueue.deviceDone(sbdf, job);
  }
}

async function stopThread(worker: Worker): Promise<void> {
  if (worker.threadId < 0) return; // it has ended already
  const timer = setTimeout(() => void worker.terminate(), STOP_MS);
  await new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  clearTimeout(timer);
}
