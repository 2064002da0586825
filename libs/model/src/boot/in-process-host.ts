// A whole host in one thread: booted, with a direct hypercall port for every domain. Calls run to their end through the
// dispatcher; where one waits for a device, that device's engine runs. For planning and comparing, where nothing may race.
import { DeviceEngine } from '../device/device-engine.ts';
import { createHost, dmaCpu, Host, mainCpu, type Platform } from '../host.ts';
import type { HostConfig } from '../host-config.ts';
import type { AnswerOf, Call, Hypercalls } from '../hypercall/calls.ts';
import { type ContinuationState, runCall } from '../hypercall/dispatch.ts';
import { bootHost, type Dom0Spec } from './boot-host.ts';

/** The domain went away, or will never run again, in the middle of a call. */
export class NeverResumed extends Error {
  override readonly name = 'NeverResumed';
}

const SLICES_MAX = 1_000_000;

export class InProcessHost {
  /** The main thread's view. */
  readonly h: Host;
  /** The pCPU that runs every call. */
  private readonly pcpu: Host;
  private readonly engines: readonly DeviceEngine[];

  constructor(config: HostConfig, dom0: Dom0Spec, platform: Platform) {
    const shared = createHost(config);
    this.h = new Host(shared, mainCpu(config), platform);
    this.pcpu = new Host(shared, 0, platform);
    bootHost(this.h, dom0);
    this.engines = Array.from(
      { length: config.dmaThreads },
      (_, thread) => new DeviceEngine(new Host(shared, dmaCpu(config, thread), platform), thread),
    );
  }

  /** Device work, a bounded piece of it. */
  runDevices(transactions = 4096): void {
    for (const engine of this.engines) engine.runBurst(transactions);
  }

  port(domid: number, vcpu = 0): Hypercalls {
    const call = <C extends Call>(c: C): AnswerOf<C['op']> => this.run(domid, vcpu, c);
    return { call, multicall: (calls) => calls.map((c) => call(c)) };
  }

  protected run<C extends Call>(domid: number, vcpu: number, call: C): AnswerOf<C['op']> {
    const domain = this.pcpu.domain(domid);
    if (!domain) throw new NeverResumed(`domain ${domid} does not exist`);
    const caller = { domain, vcpu, preempt: () => false };
    let state: ContinuationState | null = null;
    for (let i = 0; i < SLICES_MAX; i++) {
      const outcome = runCall(this.pcpu, caller, call, state);
      if (outcome.end === 'done') return outcome.answer as AnswerOf<C['op']>; // the dispatcher answers in kind
      state = outcome.state;
      if (outcome.end !== 'blocked') continue;
      if (outcome.on.on !== 'device') throw new NeverResumed(`domain ${domid} is held in ${call.op}`);
      this.runDevices();
    }
    throw new Error(`${call.op} does not end`);
  }
}
