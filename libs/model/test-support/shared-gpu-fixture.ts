// Shared GPUs as the live host has them, on the spec's own thread: guests and dom0 reach them by calls alone; while a call waits, the
// mediators answer and the GPUs work. All of it is the model's code.
import { DeviceEngine } from '#model/device/device-engine';
import type { Domain } from '#model/domain/domain';
import type { Sbdf } from '#model/frames/addresses';
import { GpuRunner } from '#model/gpu/gpu-runner';
import { createGuestMemory, GuestMemory } from '#model/guest/guest-memory';
import type { GuestEventName, GuestEvents, GuestSink } from '#model/guest/guest-spec';
import type { GpuFigures } from '#model/guest/shared-gpu/spec';
import type { TaskContext } from '#model/guest/task';
import { dmaCpu, Host } from '#model/host';
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import type { ContinuationState } from '#model/hypercall/dispatch';
import { hypercall, slice, type Testbed } from './hypercall-fixture.ts';

const TURNS_MAX = 10_000;

export class SharedGpus {
  readonly bed: Testbed;
  readonly runner: GpuRunner;
  readonly devices: DeviceEngine;
  /** Told of every call that a guest or dom0 has ended, before its caller goes on. */
  after: (op: Call['op']) => void = () => {};

  constructor(bed: Testbed) {
    this.bed = bed;
    const hardware = new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.log);
    this.runner = new GpuRunner(hardware, 0, {}, () => {});
    this.devices = new DeviceEngine(hardware, 0);
  }

  /** Every mediator answers what it was asked, every GPU and device works for a while. */
  turn(): void {
    const { bed } = this;
    for (const { config } of bed.h.gpus.all) {
      hypercall(bed, bed.dom0, { op: 'gpu_serve', device: config.sbdf, wait: false });
    }
    this.runner.runBurst(256);
    this.devices.runBurst(256);
  }

  port(d: Domain): Hypercalls {
    const call = <C extends Call>(c: C): AnswerOf<C['op']> => {
      let state: ContinuationState | null = null;
      for (let i = 0; i < TURNS_MAX; i++) {
        const outcome = slice(this.bed, d, c, state);
        if (outcome.end === 'done') {
          this.after(c.op);
          return outcome.answer as AnswerOf<C['op']>; // each handler answers in its op's shape
        }
        state = outcome.state;
        if (outcome.end === 'blocked') this.turn();
      }
      throw new Error(`${c.op} does not end`);
    };
    return { call, multicall: (calls) => calls.map((c): Answer => call(c)) };
  }

  attach(d: Domain, device: Sbdf): number {
    return this.port(this.bed.dom0).call({
      op: 'gpu_attach',
      device,
      domid: d.domid,
      mappable: 16,
      unmappable: 48,
    }).rc;
  }

  /** A kernel's task over that domain's calls; `pages`: its RAM. */
  context(d: Domain, pages: number): TaskContext & { readonly sink: FiguresSink } {
    const memory = createGuestMemory({
      ranges: [{ start: 0, end: pages }],
      taken: [],
      vcpus: 1,
      seed: 1,
      unitPages: 1,
      allocation: 'scattered',
      hotplugPages: 0,
    });
    return {
      memory: new GuestMemory(memory, 0),
      port: this.port(d),
      sink: new FiguresSink(),
      seed: d.domid + 1,
      mailboxes: new Map(),
    };
  }
}

export class FiguresSink implements GuestSink {
  readonly figures: GpuFigures[] = [];

  event<N extends GuestEventName>(name: N, data: GuestEvents[N]): void {
    if (name === 'gpuActivity') this.figures.push(data as GpuFigures); // that event's data
  }

  get last(): GpuFigures | undefined {
    return this.figures.at(-1);
  }
}
