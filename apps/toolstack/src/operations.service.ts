// Runs operations in threads: takes an idle one or starts another, serves its hypercalls, xenstore and pauses, and gives back its
// result. How many operations run at once, and in which order, is the caller's business.
import { extname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Inject, Injectable } from '@nestjs/common';
import type { HostCaps } from '#model/toolstack/build-info';
import type { Pause, PauseResult } from '#model/toolstack/ports';
import { type SyncPortServer, type SyncServices, serveSyncPort } from '#wire/sync-port';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import {
  type FromOperationThread,
  type HostFacts,
  type OperationThreadData,
  service,
  type ToOperationThread,
} from './dom0/operation-messages.ts';
import type { OperationArgs, OperationName, OperationResult } from './dom0/operations.ts';
import { Dom0Service } from './dom0.service.ts';
import { XenstoreService } from './xenstore.service.ts';

/** Physical address bits of the smallest processor with an IOMMU; a larger memory map tells of a larger one. */
const PHYS_BITS_MIN = 39;
/** Idle threads kept. */
const IDLE_MAX = 2;

/** Does what an operation pauses for, except sleeping. */
export type OnPause = (pause: Exclude<Pause, { do: 'sleep' }>) => Promise<PauseResult>;

interface Thread {
  readonly worker: Worker;
  readonly port: SyncPortServer;
  onPause: OnPause;
}

@Injectable()
export class OperationsService {
  readonly #config: ToolstackConfig;
  readonly #dom0: Dom0Service;
  readonly #xenstore: XenstoreService;
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();

  constructor(
    @Inject(TOOLSTACK_CONFIG) config: ToolstackConfig,
    @Inject(Dom0Service) dom0: Dom0Service,
    @Inject(XenstoreService) xenstore: XenstoreService,
  ) {
    this.#config = config;
    this.#dom0 = dom0;
    this.#xenstore = xenstore;
  }

  async run<N extends OperationName>(name: N, args: OperationArgs<N>, onPause: OnPause): Promise<OperationResult<N>> {
    const facts = await this.#facts();
    const thread = this.#idle.pop() ?? this.#start();
    thread.onPause = onPause;
    try {
      // The thread runs the operation of that name: its result has that operation's type.
      return (await ask(thread.worker, { name, args, facts })) as OperationResult<N>;
    } finally {
      if (this.#idle.length < IDLE_MAX && this.#all.has(thread)) this.#idle.push(thread);
      else await this.#end(thread);
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#all].map((thread) => this.#end(thread)));
  }

  /** As libxl asks physinfo before each decision. */
  async #facts(): Promise<HostFacts> {
    const { info } = await this.#dom0.call({ op: 'physinfo' });
    if (!info) throw new Error('the hypervisor gives dom0 no physinfo');
    const caps: HostCaps = {
      hap: info.hap,
      shadow: false,
      hvmDirectio: info.iommu,
      iommuHapPtShare: info.hapPtShare,
      nodes: 1,
      onlineCpus: info.pcpus,
    };
    const { devices, memoryMap } = this.#config.host;
    const top = memoryMap.reduce((end, { addr, size }) => Math.max(end, addr + size), 0);
    return { devices, memoryMap, caps, physBits: Math.max(PHYS_BITS_MIN, Math.ceil(Math.log2(Math.max(1, top)))) };
  }

  #start(): Thread {
    // The services close over the thread, which holds who is asked about pauses just now.
    const pause = (wanted: Pause): Promise<PauseResult> => this.#pause(thread, wanted);
    const port = serveSyncPort((calls) => this.#dom0.calls(calls), this.#services(pause));
    const data: OperationThreadData = { end: port.end };
    const worker = new Worker(new URL(`./dom0/operation-thread${extname(import.meta.url)}`, import.meta.url), {
      workerData: data,
      transferList: port.transfer,
    });
    const thread: Thread = { worker, port, onPause: () => Promise.resolve({ ok: true }) };
    this.#all.add(thread);
    worker.once('exit', () => this.#all.delete(thread));
    return thread;
  }

  async #end(thread: Thread): Promise<void> {
    this.#all.delete(thread);
    await thread.worker.terminate();
    thread.port.close();
  }

  async #pause(thread: Thread, wanted: Pause): Promise<PauseResult> {
    if (wanted.do !== 'sleep') return thread.onPause(wanted);
    await sleep(wanted.ms / this.#config.knobs.timeScale);
    return { ok: true };
  }

  #services(pause: (wanted: Pause) => Promise<PauseResult>): SyncServices {
    // Arguments are the tuples that operation-thread.ts sends under these names.
    const of =
      <A extends readonly unknown[]>(serve: (...args: A) => Promise<unknown>) =>
      (args: unknown): Promise<unknown> =>
        serve(...(args as A));
    return {
      [service.xsRead]: of((domid: number, path: string) => this.#xenstore.of(domid).read(path)),
      [service.xsWrite]: of((domid: number, path: string, value: string) =>
        this.#xenstore.of(domid).write(path, value),
      ),
      [service.xsRemove]: of((domid: number, path: string) => this.#xenstore.of(domid).remove(path)),
      [service.xsList]: of((domid: number, path: string) => this.#xenstore.of(domid).list(path)),
      [service.xsRemoveDomain]: of((domid: number) => this.#xenstore.removeDomain(domid)),
      [service.pause]: of(pause),
    };
  }
}

/** One request to a thread that has none. Rejects if the thread breaks. */
function ask(worker: Worker, request: ToOperationThread): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      worker.off('message', onMessage);
      worker.off('error', onError);
      worker.off('exit', onExit);
    };
    const onMessage = (answer: FromOperationThread): void => {
      settle();
      if (answer.ok) resolve(answer.result);
      else reject(new Error(answer.error.message));
    };
    const onError = (error: Error): void => {
      settle();
      reject(error);
    };
    const onExit = (): void => onError(new Error('the toolstack is ending'));
    worker.on('message', onMessage);
    worker.on('error', onError);
    worker.on('exit', onExit);
    worker.postMessage(request);
  });
}
