// One DMA thread: runs the bursts of its devices for as long as there are jobs, parks between bursts, and says which jobs are
// done. It holds no lock, and no transaction is open between bursts. What a transaction is, is the model's.
import { DeviceEngine, type EngineHooks } from '#model/device/device-engine';
import { GpuRunner } from '#model/gpu/gpu-runner';
import type { Host } from '#model/host';
import type { SharedWords } from '../shared-words.ts';
import { nowUs, type ReportBuffer } from '../thread-setup.ts';
import type { DmaFault, FinishedJob, FromDma, JobSpan } from './dma-messages.ts';

/** Transactions between two looks at whether to park; some ten microseconds. */
const BURST = 256;
/** Lines and spans wait for company at most this long. */
const FLUSH_MS = 5;
/** Faults told between two flushes; all are counted by the model. */
const FAULTS_MAX = 1000;

export class DmaLoop {
  private readonly host: Host;
  private readonly words: SharedWords;
  private readonly reports: ReportBuffer;
  private readonly post: (message: FromDma) => void;
  private readonly record: boolean;
  private readonly thread: number;
  private readonly engine: DeviceEngine;
  private readonly gpus: GpuRunner;
  /** When the job that a device of this thread works on was first seen, µs; 0 = none. */
  private readonly startedUs = new Map<number, number>();
  private finished: FinishedJob[] = [];
  private jobs: JobSpan[] = [];
  private faults: DmaFault[] = [];
  private gpuNews = false;
  private flushedAt = 0;

  constructor(
    host: Host,
    thread: number,
    words: SharedWords,
    reports: ReportBuffer,
    post: (message: FromDma) => void,
    record: boolean,
  ) {
    this.host = host;
    this.thread = thread;
    this.words = words;
    this.reports = reports;
    this.post = post;
    this.record = record;
    const hooks: EngineHooks = {
      onDone: (sbdf, job) => this.done(sbdf, job),
      onFault: (fault) => {
        if (this.faults.length < FAULTS_MAX) this.faults.push({ tsUs: nowUs(), ...fault });
      },
      now: () => performance.now(),
    };
    this.engine = new DeviceEngine(host, thread, hooks);
    this.gpus = new GpuRunner(host, thread, hooks, () => {
      this.gpuNews = true;
    });
    for (const [device, { sbdf }] of host.config.devices.entries()) {
      if (host.devices.threadOf(device) === thread) this.startedUs.set(sbdf, 0);
    }
  }

  /** Until the process stops. Throws HostPanic when the host is dead. */
  run(): void {
    const { doorbells } = this.host.devices;
    while (!this.words.stopped) {
      this.host.panicCell.check();
      const seen = Atomics.load(doorbells, this.thread);
      if (this.words.parkRequested) {
        this.flush();
        this.words.park(this.host.config.pcpus + this.thread);
        continue;
      }
      if (this.record || this.words.watched) this.noteStarts();
      const devicesBusy = this.engine.runBurst(BURST);
      const gpuRestMs = this.gpus.runBurst(BURST);
      const busy = devicesBusy || gpuRestMs === 0;
      if (!busy || this.finished.length > 0 || this.gpuNews || performance.now() - this.flushedAt > FLUSH_MS)
        this.flush();
      // A submission, a reset and a park request all ring; what came before `seen` was read has been looked at.
      if (!busy && !this.words.parkRequested && !this.words.stopped)
        Atomics.wait(doorbells, this.thread, seen, gpuRestMs);
    }
    this.flush();
  }

  private noteStarts(): void {
    const { devices } = this.host;
    for (const [sbdf, started] of this.startedUs) {
      if (started === 0 && devices.current(devices.indexOf(sbdf)) !== 0) this.startedUs.set(sbdf, nowUs());
    }
  }

  private done(sbdf: number, job: number): void {
    this.finished.push({ sbdf, job });
    if (!this.record && !this.words.watched) return;
    const { devices } = this.host;
    const { completed, faults } = devices.result(devices.indexOf(sbdf), job);
    const now = nowUs();
    const tsUs = this.startedUs.get(sbdf) || now;
    this.jobs.push({ tsUs, durUs: now - tsUs, thread: this.thread, sbdf, job, completed, faults });
    this.startedUs.set(sbdf, 0);
  }

  private flush(): void {
    this.flushedAt = performance.now();
    const { finished, jobs, faults } = this;
    const { gpuNews } = this;
    if (finished.length + jobs.length + faults.length === 0 && !gpuNews && this.reports.empty) return;
    this.post({
      ...(finished.length ? { finished } : {}),
      ...(jobs.length ? { jobs } : {}),
      ...(faults.length ? { faults } : {}),
      ...(gpuNews ? { gpuNews } : {}),
      ...this.reports.take(),
    });
    this.finished = [];
    this.jobs = [];
    this.faults = [];
    this.gpuNews = false;
  }
}
