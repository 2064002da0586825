// What one host is started with, as plain data, from a host description or a scenario's twin. Owns the numbers that the model
// does not take from the machine: how many of its pCPUs run here, and dom0's vCPU for the toolstack.
import { availableParallelism } from 'node:os';
import { type HostConfigOptions, hostConfig } from '#formats/host-config';
import type { HostDescription } from '#formats/host-file';
import { modelPolicies, type Policies } from '#formats/policies';
import type { Twin, Workload } from '#formats/scenario';
import { sharingOf } from '#model/guest/activity/spec';
import type { GuestSpec } from '#model/guest/guest-spec';
import { defaultBalloon } from '#model/guest/guest-spec';
import type { HostConfig } from '#model/host-config';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { kernelOptions, withMediatorsPinned } from './guest-kernel-options.ts';

/** pCPU threads beyond the cores of this machine only wait for each other. */
const MIN_PCPUS = 2;
const DOM0_SEED = 0;
const DOM0_BOOT_TOUCH_MB = 32;
/** Domains of one host at a time; those built beside dom0 come and go. */
const MAX_DOMAINS = 64;

export interface HostPlan {
  /** Begins the host's id: letters, digits and dashes. */
  readonly name: string;
  /** What runs on it, for people. */
  readonly label: string;
  readonly config: HostConfig;
  readonly faults: FaultPlan;
  readonly policies: Policies;
  readonly timeScale: number;
  /** `vcpus`: of its kernel; the toolstack's comes on top. */
  readonly dom0: { readonly memoryMb: number; readonly vcpus: number; readonly workload: readonly Workload[] };
  /** Guest agents and how many guests each holds. The first also takes dom0. */
  readonly agents: readonly { readonly capacity: number }[];
  readonly record: boolean;
}

/** pCPU threads for a host with so many pCPUs. */
export const pcpuThreads = (pcpus: number): number => Math.min(pcpus, Math.max(MIN_PCPUS, availableParallelism()));

function configOf(host: HostDescription, policies: Policies): HostConfig {
  const options: HostConfigOptions = { dmaThreads: 1, maxDomains: MAX_DOMAINS };
  return { ...hostConfig(host, policies, options), pcpus: pcpuThreads(host.pcpus), nrCpus: host.pcpus };
}

/** One agent holds all guests, unless one is to be killed: then each has its own, dom0 too, and one is to spare. */
function agentsOf(twin: Twin): HostPlan['agents'] {
  const killed = twin.timeline.some((step) => step.do === 'kill' && step.what === 'guest-agent');
  if (!killed) return [{ capacity: MAX_DOMAINS }];
  return Array.from({ length: twin.guests.length + 2 }, () => ({ capacity: 1 }));
}

export function planOfTwin(scenario: string, twin: Twin): HostPlan {
  return {
    name: scenario,
    label: `${scenario}, twin ${twin.name}`,
    config: configOf(twin.host, twin.policies),
    faults: twin.faults,
    policies: twin.policies,
    timeScale: twin.timeScale,
    dom0: twin.dom0,
    agents: agentsOf(twin),
    record: true,
  };
}

/** A host to play with: real time, nothing recorded. */
export function planOfHost(host: HostDescription, policies: Policies): HostPlan {
  return {
    name: host.name,
    label: host.file,
    config: configOf(host, policies),
    faults: [],
    policies,
    timeScale: 1,
    dom0: { ...host.dom0, workload: [{ run: 'balloon' }] },
    // Dom0's kernel has its own: the death of the guests' agent must not take dom0 along.
    agents: [{ capacity: 1 }, { capacity: MAX_DOMAINS }],
    record: false,
  };
}

/** dom0's kernel: the toolstack's vCPU is not its business. */
export function dom0Spec(plan: HostPlan, domid: number): GuestSpec {
  const { memoryMb, vcpus, workload } = plan.dom0;
  const kernel = kernelOptions(workload, { gpuBursts: new Map() });
  return {
    domid,
    name: 'Domain-0',
    control: true,
    vcpus,
    seed: DOM0_SEED,
    e820: null,
    targetKb: memoryMb * 1024,
    staticMaxKb: memoryMb * 1024,
    bootTouchMb: Math.min(kernel.bootTouchMb ?? DOM0_BOOT_TOUCH_MB, Math.floor(memoryMb / 4)),
    allocation: 'scattered',
    balloon: {
      ...defaultBalloon,
      ...kernel.balloon,
      enabled: workload.some(({ run }) => run === 'balloon'),
      order: plan.policies['balloon.order'],
    },
    foreignMapPlace: plan.policies['foreign-map.place'],
    sharing: sharingOf(modelPolicies(plan.policies)),
    workloads: withMediatorsPinned(kernel.workloads ?? [], vcpus),
    timeScale: plan.timeScale,
  };
}
