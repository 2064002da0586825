// One vCPU of a guest: a thread that runs the guest's kernel over a synchronous hypercall port and sleeps when the kernel has
// nothing to do. It decides nothing, holds no Redis connection, and knows real time only to turn it into the guest's.
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { bootGuest, type GuestShared } from '#model/guest/boot';
import { GuestKernel } from '#model/guest/guest-kernel';
import { GuestPanic } from '#model/guest/guest-panic';
import type { GuestCommand, GuestSink, GuestSpec } from '#model/guest/guest-spec';
import { type Hypercalls, shutdownReason } from '#model/hypercall/calls';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { installSeam } from '#model/shared-memory/step';
import { faultSeam } from '#wire/fault-seam';
import { PortHypercalls, SyncPort, type SyncPortEnd, SyncPortError } from '#wire/sync-port-thread';
import type { TimedEvent } from './ipc.ts';
import { SteppedHypercalls } from './stepped-hypercalls.ts';

export interface VcpuThreadData {
  readonly vcpu: number;
  readonly end: SyncPortEnd;
  /** Commands; each is followed by a ring of the port's doorbell. */
  readonly inbox: MessagePort;
  /** The guest's clock starts here, in ms of the machine's. */
  readonly bootedAt: number;
  readonly faults: FaultPlan;
  /** The boot CPU gets the specification and makes the shared state; the others are given that. */
  readonly boot: { readonly spec: GuestSpec } | { readonly shared: GuestShared };
}

export type FromVcpu =
  | { readonly say: 'booted'; readonly shared: GuestShared }
  | { readonly say: 'event'; readonly event: TimedEvent }
  /** The kernel shut its domain down. */
  | { readonly say: 'dead' }
  /** A hypercall got no answer and never will. */
  | { readonly say: 'cut off'; readonly code: string; readonly text: string };

/** A sleep ends by the doorbell; this only bounds how long another vCPU's death goes unnoticed. */
const SLEEP_MAX_MS = 1000;

const data: VcpuThreadData = workerData; // from vcpus.ts of this process
const tell = (message: FromVcpu): void => parentPort?.postMessage(message);
const now = (): number => performance.timeOrigin + performance.now();

const sink: GuestSink = {
  event: (name, details) => tell({ say: 'event', event: { tsUs: Math.round(now() * 1000), name, data: details } }),
};

/** A kernel that finds no memory to run in ends as any panicking kernel does. */
function boot(spec: GuestSpec, port: Hypercalls): GuestShared | null {
  try {
    const shared = bootGuest(spec, port, sink);
    tell({ say: 'booted', shared });
    return shared;
  } catch (error) {
    if (!(error instanceof GuestPanic)) throw error;
    sink.event('panic', { text: error.message });
    port.call({ op: 'console_io', text: `Kernel panic - not syncing: ${error.message}\n` });
    port.call({ op: 'shutdown', reason: shutdownReason.crash });
    return null;
  }
}

function run(kernel: GuestKernel, port: SyncPort, timeScale: number): void {
  const guestNow = (): number => (now() - data.bootedAt) * timeScale;
  while (!kernel.dead) {
    const seen = port.doorbell();
    for (let mail = receiveMessageOnPort(data.inbox); mail; mail = receiveMessageOnPort(data.inbox)) {
      const command: GuestCommand = mail.message; // checked by its schema when it reached the supervisor
      kernel.command(command);
    }
    const next = kernel.run(data.vcpu, guestNow());
    const sleepMs = (next - guestNow()) / timeScale;
    if (sleepMs > 0 && !kernel.dead) port.sleep(seen, Math.min(sleepMs, SLEEP_MAX_MS));
  }
}

let kernel: GuestKernel | undefined;
const extendWatchdog = (ms: number): void => kernel?.extendWatchdog(ms);
installSeam(faultSeam(data.faults, { process: 'guest', cpu: data.vcpu, extendWatchdog }));
data.inbox.unref();
const port = new SyncPort(data.end);
const { domid } = 'shared' in data.boot ? data.boot.shared.spec : data.boot.spec;
const hypercalls = new SteppedHypercalls(new PortHypercalls(port), domid);
try {
  const shared = 'shared' in data.boot ? data.boot.shared : boot(data.boot.spec, hypercalls);
  if (shared) {
    kernel = new GuestKernel(shared, [{ vcpu: data.vcpu, port: hypercalls }], sink);
    run(kernel, port, shared.spec.timeScale);
  }
  tell({ say: 'dead' });
} catch (error) {
  if (!(error instanceof SyncPortError)) throw error;
  // Once the kernel has shut its domain down no call of it is answered.
  if (kernel?.dead) tell({ say: 'dead' });
  else tell({ say: 'cut off', code: error.code, text: error.message });
}
