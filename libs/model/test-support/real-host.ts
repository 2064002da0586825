// A real host in one thread for specs: booted, with a direct hypercall port per domain. Calls run to their end through the
// dispatcher; where one waits for a device, that device's engine runs. Nothing here stands in for anything.
import { bootHost } from '#model/boot/boot-host';
import { DeviceEngine } from '#model/device/device-engine';
import { createHost, dmaCpu, Host, mainCpu } from '#model/host';
import type { HostConfig } from '#model/host-config';
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { type Recorded, recorder, smallConfig } from './p2m-fixture.ts';

/** The domain went away, or will never run again, in the middle of a call. */
export class NeverResumed extends Error {
  override readonly name = 'NeverResumed';
}

const SLICES_MAX = 1_000_000;

export class RealHost {
  /** The main thread's view. */
  readonly h: Host;
  readonly log: Recorded;
  /** The pCPU that runs every call. */
  private readonly pcpu: Host;
  private readonly engines: readonly DeviceEngine[];
  /** Looked at before every call of every port; may answer in its place. */
  intercept: (domid: number, call: Call) => Answer | null = () => null;

  constructor(overrides: Partial<HostConfig>, dom0Mb: number) {
    const config = smallConfig(overrides);
    const shared = createHost(config);
    this.log = recorder();
    this.h = new Host(shared, mainCpu(config), this.log);
    this.pcpu = new Host(shared, 0, this.log);
    bootHost(this.h, { memoryPages: dom0Mb * 256, vcpus: 2 });
    this.engines = Array.from(
      { length: config.dmaThreads },
      (_, thread) => new DeviceEngine(new Host(shared, dmaCpu(config, thread), this.log), thread),
    );
  }

  /** Device work, a bounded piece of it. */
  runDevices(transactions = 4096): void {
    for (const engine of this.engines) engine.runBurst(transactions);
  }

  port(domid: number, vcpu = 0): Hypercalls {
    const call = <C extends Call>(c: C): AnswerOf<C['op']> =>
      (this.intercept(domid, c) ?? this.run(domid, vcpu, c)) as AnswerOf<C['op']>; // the dispatcher answers in kind
    return { call, multicall: (calls) => calls.map((c) => call(c)) };
  }

  private run(domid: number, vcpu: number, call: Call): Answer {
    const domain = this.pcpu.domain(domid);
    if (!domain) throw new NeverResumed(`domain ${domid} does not exist`);
    const caller = { domain, vcpu, preempt: () => false };
    let state: ContinuationState | null = null;
    for (let i = 0; i < SLICES_MAX; i++) {
      const outcome = runCall(this.pcpu, caller, call, state);
      if (outcome.end === 'done') return outcome.answer;
      state = outcome.state;
      if (outcome.end !== 'blocked') continue;
      if (outcome.on.on === 'unpause') throw new NeverResumed(`domain ${domid} is held in ${call.op}`);
      this.runDevices();
    }
    throw new Error(`${call.op} does not end`);
  }
}
