// The vCPU threads of one guest process: starts the boot CPU, then the others with the state it made; hands commands to all and
// gathers what they report. It knows no Redis; a vCPU's calls go through the function it is given.
import { extname } from 'node:path';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { GuestShared } from '#model/guest/boot';
import type { GuestCommand, GuestSpec } from '#model/guest/guest-spec';
import type { Call } from '#model/hypercall/calls';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import type { Answers } from '#wire/answer-codec';
import { type SyncPortServer, serveSyncPort } from '#wire/sync-port';
import type { TimedEvent } from './ipc.ts';
import type { FromVcpu, VcpuThreadData } from './vcpu-thread.ts';

export interface VcpusOptions {
  readonly spec: GuestSpec;
  readonly faults: FaultPlan;
  readonly send: (vcpu: number, calls: readonly Call[]) => Promise<Answers>;
  readonly onEvent: (event: TimedEvent) => void;
  /** The kernel runs no more: it has shut its domain down. Called once. */
  readonly onDead: () => void;
  /** A hypercall got no answer and never will. */
  readonly onCutOff: (code: string, text: string) => void;
  /** A thread ended by an exception. */
  readonly onError: (error: Error) => void;
}

interface Vcpu {
  readonly worker: Worker;
  readonly port: SyncPortServer;
  readonly inbox: MessagePort;
}

const BOOT_CPU = 0;

export class Vcpus {
  readonly #options: VcpusOptions;
  readonly #running: Vcpu[] = [];
  /** Commands so far, for vCPUs that are not started yet. */
  readonly #commands: GuestCommand[] = [];
  readonly #bootedAt = performance.timeOrigin + performance.now();
  #deadVcpus = 0;
  #ended = false;

  constructor(options: VcpusOptions) {
    this.#options = options;
    this.#start(BOOT_CPU, { spec: options.spec });
  }

  command(command: GuestCommand): void {
    this.#commands.push(command);
    for (const vcpu of this.#running) hand(vcpu, command);
  }

  #start(vcpu: number, boot: VcpuThreadData['boot']): void {
    const port = serveSyncPort((calls) => this.#send(vcpu, calls));
    const { port1: ours, port2: inbox } = new MessageChannel();
    const data: VcpuThreadData = {
      vcpu,
      end: port.end,
      inbox,
      bootedAt: this.#bootedAt,
      boot,
      faults: this.#options.faults,
    };
    const worker = new Worker(new URL(`./vcpu-thread${extname(import.meta.url)}`, import.meta.url), {
      workerData: data,
      transferList: [...port.transfer, inbox],
    });
    worker.on('message', (message: FromVcpu) => this.#hear(message));
    worker.on('error', (error) => this.#options.onError(error instanceof Error ? error : new Error(String(error))));
    const started = { worker, port, inbox: ours };
    for (const command of this.#commands) hand(started, command);
    this.#running.push(started);
  }

  /** All vCPUs see a dying kernel at once, but only the one whose call shuts the domain down has the last word. */
  async #send(vcpu: number, calls: readonly Call[]): Promise<Answers> {
    try {
      return await this.#options.send(vcpu, calls);
    } finally {
      if (calls.some(({ op }) => op === 'shutdown')) this.#isDead();
    }
  }

  #isDead(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onDead();
  }

  #hear(message: FromVcpu): void {
    switch (message.say) {
      case 'booted':
        this.#startOthers(message.shared);
        return;
      case 'event':
        this.#options.onEvent(message.event);
        return;
      case 'dead':
        if (++this.#deadVcpus === this.#running.length) this.#isDead();
        return;
      case 'cut off':
        this.#options.onCutOff(message.code, message.text);
        return;
      default:
        message satisfies never;
    }
  }

  #startOthers(shared: GuestShared): void {
    for (let vcpu = BOOT_CPU + 1; vcpu < shared.spec.vcpus; vcpu++) this.#start(vcpu, { shared });
  }
}

function hand({ inbox, port }: Vcpu, command: GuestCommand): void {
  inbox.postMessage(command);
  port.ring();
}
