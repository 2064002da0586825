// A guest kernel as its vCPU threads run it: boot, late init, then cooperative tasks, each pinned to one vCPU. It decides
// everything a guest decides and keeps no time of its own: `now` is the guest's milliseconds, given by the caller. One
// instance serves the vCPUs of one thread; all instances of a guest share one memory.
import { type Hypercalls, shutdownReason } from '../hypercall/calls.ts';
import { ActivityTask } from './activity/activity.ts';
import { activityTasks } from './activity/table.ts';
import { Balloon } from './balloon.ts';
import type { GuestShared } from './boot.ts';
import { ForeignMapper } from './foreign-mapper.ts';
import { GpuDriver } from './gpu-driver.ts';
import { GuestMemory, pageState } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import { guestPhase, guestRecord } from './guest-record.ts';
import {
  type ActivityWorkloadSpec,
  BALLOON_VCPU,
  type GuestCommand,
  type GuestSink,
  type GuestSpec,
  vcpuOf,
  type WorkloadSpec,
} from './guest-spec.ts';
import { Intruder } from './intruder.ts';
import { MemoryWorkload } from './memory-workload.ts';
import { NicDriver } from './nic-driver.ts';
import { MediatorTask } from './shared-gpu/mediator-task.ts';
import { takeGpuOrder } from './shared-gpu/orders.ts';
import type { GpuOrder } from './shared-gpu/spec.ts';
import { VgpuDriver } from './shared-gpu/vgpu-driver.ts';
import type { Task, TaskContext } from './task.ts';
import { UsbDriver } from './usb-driver.ts';
import { useWindow } from './window-user.ts';

const FIRST_MIB_PAGES = 256;
const PAGES_PER_MB = 256;
/** Frames one slice of booting touches. */
const BOOT_SLICE = 2048;
/** How often a vCPU that has to wait for the boot CPU looks. */
const SECONDARY_POLL_MS = 100;

interface Scheduled {
  readonly task: Task;
  wakeAt: number;
}

/** One vCPU: its port, its tasks and the commands it has not looked at yet. */
interface Vcpu {
  readonly id: number;
  readonly context: TaskContext;
  readonly tasks: Map<string, Scheduled>;
  readonly inbox: GuestCommand[];
  started: boolean;
}

export interface VcpuPort {
  readonly vcpu: number;
  readonly port: Hypercalls;
}

export class GuestKernel {
  private readonly spec: GuestSpec;
  private readonly shared: GuestShared;
  private readonly sink: GuestSink;
  private readonly memory: GuestMemory;
  private readonly vcpus = new Map<number, Vcpu>();
  /** Only where the balloon's vCPU is served. */
  private readonly balloon: Balloon | null = null;
  private readonly mapper: ForeignMapper | null = null;
  private readonly intruder: Intruder | null = null;
  private bootLeft: number;
  private bootTouched = 0;
  private bootFaulted = 0;

  constructor(shared: GuestShared, ports: readonly VcpuPort[], sink: GuestSink) {
    const { spec } = shared;
    this.shared = shared;
    this.spec = spec;
    this.sink = sink;
    this.memory = new GuestMemory(shared.memory, ports[0]?.vcpu ?? 0);
    this.bootLeft = spec.bootTouchMb * PAGES_PER_MB;
    for (const { vcpu, port } of ports) {
      const context: TaskContext = { memory: this.memory, port, sink, seed: spec.seed, mailboxes: new Map() };
      this.vcpus.set(vcpu, { id: vcpu, context, tasks: new Map(), inbox: [], started: false });
      if (vcpu !== BALLOON_VCPU) continue;
      this.balloon = new Balloon({
        memory: this.memory,
        port,
        sink,
        spec: spec.balloon,
        control: spec.control,
        staticMaxKb: () => spec.staticMaxKb,
      });
      this.mapper = new ForeignMapper(context, this.balloon, spec.foreignMapPlace, shared.slotsBase);
      this.intruder = new Intruder(context);
    }
  }

  get phase(): number {
    return Atomics.load(this.memory.record.words, guestRecord.at.phase);
  }

  get dead(): boolean {
    return this.phase === guestPhase.dead;
  }

  /** An injected stall of a vCPU begins: no watchdog of the kernel's locks may count it. */
  extendWatchdog(ms: number): void {
    this.memory.locks.extendWatchdog(ms);
  }

  /** Hands a command over; every instance may be given every command, each keeps what is its own. */
  command(command: GuestCommand): void {
    for (const vcpu of this.vcpus.values()) if (this.concerns(vcpu, command)) vcpu.inbox.push(command);
  }

  private concerns(vcpu: Vcpu, command: GuestCommand): boolean {
    switch (command.do) {
      case 'target':
      case 'foreign-copy':
      case 'enter-reserved':
      case 'bar-io':
      case 'shutdown':
        return vcpu.id === BALLOON_VCPU;
      case 'start':
        return vcpu.id === vcpuOf(this.spec, command.workload);
      case 'stop':
      case 'gpu-dma':
      case 'reserved-io':
      case 'gpu':
      case 'activity':
        return true;
      default:
        return command satisfies never;
    }
  }

  /** One slice of every task of the vCPU that is due; answers when it next wants to run. Infinity: only for a command. */
  run(vcpuId: number, now: number): number {
    const vcpu = this.vcpus.get(vcpuId);
    if (!vcpu || this.dead) return Number.POSITIVE_INFINITY;
    try {
      return this.runPhase(vcpu, now);
    } catch (error) {
      if (!(error instanceof GuestPanic)) throw error;
      this.die(vcpu, error.message);
      return Number.POSITIVE_INFINITY;
    }
  }

  private runPhase(vcpu: Vcpu, now: number): number {
    this.takeCommands(vcpu);
    if (this.dead) return Number.POSITIVE_INFINITY;
    if (this.phase === guestPhase.running) return this.runTasks(vcpu, now);
    if (vcpu.id !== BALLOON_VCPU || !this.balloon) return now + SECONDARY_POLL_MS;
    return this.phase === guestPhase.booting
      ? this.bootSlice(vcpu, this.balloon, now)
      : this.lateInit(this.balloon, now);
  }

  private bootSlice(vcpu: Vcpu, balloon: Balloon, now: number): number {
    const frames = this.memory.allocUpFrom(FIRST_MIB_PAGES, Math.min(BOOT_SLICE, this.bootLeft), pageState.pinned);
    if (frames.length > 0) {
      const { done = 0, faulted = 0 } = vcpu.context.port.call({
        op: 'touch',
        frames: { frames: Uint32Array.from(frames) },
      });
      this.memory.markTouched(frames);
      this.bootTouched += done;
      this.bootFaulted += faulted;
      this.bootLeft -= frames.length;
    }
    if (frames.length > 0 && this.bootLeft > 0) return now;
    const { ramPages } = this.memory.record;
    this.sink.event('bootDone', { ramPages, touched: this.bootTouched, faulted: this.bootFaulted });
    // A watch that fired meanwhile knows better: the target may have been changed since the guest was built.
    if (this.spec.targetKb !== null && this.spec.balloon.enabled && !balloon.hasTarget)
      balloon.onTarget(this.spec.targetKb);
    this.setPhase(guestPhase.lateInit);
    return now;
  }

  private lateInit(balloon: Balloon, now: number): number {
    const { enabled, waitAtBoot } = this.spec.balloon;
    if (enabled && waitAtBoot) {
      const next = balloon.step(now);
      if (!balloon.bootFinished(now)) return Math.min(next, now + Balloon.bootPollMs);
    }
    const { currentPages, targetPages } = this.memory.record;
    this.sink.event('running', { currentPages, targetPages });
    this.setPhase(guestPhase.running);
    return now;
  }

  private setPhase(phase: number): void {
    Atomics.store(this.memory.record.words, guestRecord.at.phase, phase);
  }

  private runTasks(vcpu: Vcpu, now: number): number {
    if (!vcpu.started) this.start(vcpu);
    let next = Number.POSITIVE_INFINITY;
    for (const scheduled of vcpu.tasks.values()) {
      const called = scheduled.task.id === 'balloon' && this.balloon?.woken === true;
      if (scheduled.wakeAt <= now || called) scheduled.wakeAt = scheduled.task.step(now);
      next = Math.min(next, scheduled.wakeAt);
    }
    return next;
  }

  private start(vcpu: Vcpu): void {
    vcpu.started = true;
    const { balloon, mapper, intruder } = this;
    if (vcpu.id === BALLOON_VCPU && balloon && mapper && intruder) {
      // Without a driver nothing watches the target, but holes for foreign mappings are still made and refilled.
      this.add(vcpu, { id: 'balloon', step: (now) => balloon.step(now), stop: () => {} });
      this.add(vcpu, mapper);
      this.add(vcpu, intruder);
    }
    for (const workload of this.spec.workloads) {
      if (workload.kind === 'activity') this.loadActivity(vcpu, workload);
      else if (vcpuOf(this.spec, workload) === vcpu.id) this.load(vcpu, workload);
    }
  }

  private loadActivity(vcpu: Vcpu, workload: ActivityWorkloadSpec): void {
    const shared = this.shared.activities[workload.id];
    if (!shared) return;
    for (const task of activityTasks(this.spec, workload, shared, vcpu.id, vcpu.context)) this.add(vcpu, task);
  }

  private add(vcpu: Vcpu, task: Task): void {
    vcpu.tasks.set(task.id, { task, wakeAt: 0 });
  }

  private load(vcpu: Vcpu, workload: WorkloadSpec): void {
    if (workload.kind === 'activity') {
      this.sink.event('workload', { id: workload.id, state: 'failed', text: 'an activity is part of the boot' });
      return;
    }
    if (vcpu.tasks.has(workload.id)) return;
    this.add(vcpu, this.taskOf(vcpu.context, workload));
    this.sink.event('workload', { id: workload.id, state: 'started', text: workload.kind });
  }

  private taskOf(context: TaskContext, workload: Exclude<WorkloadSpec, ActivityWorkloadSpec>): Task {
    switch (workload.kind) {
      case 'memory':
        return new MemoryWorkload(context, workload);
      case 'gpu':
        return new GpuDriver(context, workload, this.shared.buffers[workload.id] ?? null);
      case 'nic':
        return new NicDriver(context, workload);
      case 'usb':
        return new UsbDriver(context, workload);
      case 'vgpu':
        return new VgpuDriver(context, workload);
      case 'mediator':
        return new MediatorTask(context, workload);
      default:
        return workload satisfies never;
    }
  }

  /** Before it is up a kernel only hears its target and a shutdown; the rest waits. */
  private takeCommands(vcpu: Vcpu): void {
    if (vcpu.inbox.length === 0) return;
    const up = this.phase === guestPhase.running;
    if (up && !vcpu.started) this.start(vcpu);
    for (const command of vcpu.inbox.splice(0)) {
      if (command.do === 'target') this.retarget(command.kib);
      else if (command.do === 'shutdown') this.shutDown(vcpu, command.reason);
      else if (up) this.perform(vcpu, command);
      else vcpu.inbox.push(command);
    }
  }

  private retarget(kib: number): void {
    if (!this.spec.balloon.enabled) return;
    this.balloon?.onTarget(kib);
  }

  private wake(vcpu: Vcpu, id: string): void {
    const scheduled = vcpu.tasks.get(id);
    if (scheduled) scheduled.wakeAt = 0;
  }

  private perform(vcpu: Vcpu, command: Exclude<GuestCommand, { do: 'target' | 'shutdown' }>): void {
    switch (command.do) {
      case 'start':
        this.load(vcpu, command.workload);
        return;
      case 'stop':
        this.stop(vcpu, command.id);
        return;
      case 'gpu-dma':
        for (const scheduled of vcpu.tasks.values()) {
          if (!(scheduled.task instanceof GpuDriver) || scheduled.task.device !== command.device) continue;
          scheduled.task.request(command.attempts, command.place);
          scheduled.wakeAt = 0;
        }
        return;
      case 'foreign-copy':
        this.mapper?.request(command);
        this.wake(vcpu, 'foreign-mapper');
        return;
      case 'enter-reserved':
        this.intruder?.request(command);
        this.wake(vcpu, 'intruder');
        return;
      case 'reserved-io':
        for (const scheduled of vcpu.tasks.values()) {
          if (!(scheduled.task instanceof UsbDriver) || scheduled.task.device !== command.device) continue;
          scheduled.task.request(command.attempts);
          scheduled.wakeAt = 0;
        }
        return;
      case 'gpu':
        this.orderGpu(vcpu, command);
        return;
      case 'activity':
        for (const scheduled of vcpu.tasks.values()) {
          const { task } = scheduled;
          if (task instanceof ActivityTask && task.order(command.id, command.order)) scheduled.wakeAt = 0;
        }
        return;
      case 'bar-io':
        useWindow(vcpu.context, this.spec.pci ?? [], command);
        return;
      default:
        command satisfies never;
    }
  }

  private orderGpu(vcpu: Vcpu, order: GpuOrder): void {
    const tasks = [...vcpu.tasks.values()].map(({ task }) => task);
    const add = (task: Task): void => this.add(vcpu, task);
    const isBalloons = vcpu.id === BALLOON_VCPU;
    const taken = takeGpuOrder({ context: vcpu.context, tasks, isBalloons, add }, order);
    if (taken) this.wake(vcpu, taken.id);
  }

  private stop(vcpu: Vcpu, id: string): void {
    const scheduled = vcpu.tasks.get(id);
    if (!scheduled || id === 'balloon') return;
    scheduled.task.stop();
    vcpu.tasks.delete(id);
    this.sink.event('workload', { id, state: 'stopped', text: '' });
  }

  private shutDown(vcpu: Vcpu, reason: number): void {
    this.setPhase(guestPhase.dead);
    this.sink.event('shutdown', { reason });
    vcpu.context.port.call({ op: 'shutdown', reason });
  }

  private die(vcpu: Vcpu, text: string): void {
    this.setPhase(guestPhase.dead);
    this.sink.event('panic', { text });
    vcpu.context.port.call({ op: 'console_io', text: `Kernel panic - not syncing: ${text}\n` });
    vcpu.context.port.call({ op: 'shutdown', reason: shutdownReason.crash });
  }
}
