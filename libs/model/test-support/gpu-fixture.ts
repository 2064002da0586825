// Hosts with a mediated GPU for specs: the testbed's host and dom0, guests with a virtual GPU each, the mediator and the GPU's
// engine on the spec's own thread. All of it is the model's code.
import type { Domain } from '#model/domain/domain';
import { sbdf } from '#model/frames/addresses';
import { GpuEngine } from '#model/gpu/gpu-engine';
import type { GpuState } from '#model/gpu/gpu-memory';
import { GuestGpu } from '#model/gpu/guest-gpu';
import { Mediator } from '#model/gpu/mediator';
import { dmaCpu, Host } from '#model/host';
import { defaultPolicies, type HostConfig, type MediatedGpuConfig, type ModelPolicies } from '#model/host-config';
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import { bootTestbed, hypercall, makeGuest, type Testbed } from './hypercall-fixture.ts';
import { smallConfig } from './p2m-fixture.ts';

export const testGpu: MediatedGpuConfig = {
  sbdf: sbdf(0, 0, 2, 0),
  gmPages: 256,
  aperturePages: 64,
  apertureBase: 0xe000_0000,
  tables: 32,
};

/** A second GPU with a mediator of its own. */
export const otherGpu: MediatedGpuConfig = { ...testGpu, sbdf: sbdf(0, 1, 0, 0), apertureBase: 0xd000_0000 };

/** A domain's calls, to their end. */
export function portOf(bed: Testbed, d: Domain): Hypercalls {
  const call = <C extends Call>(c: C): AnswerOf<C['op']> =>
    hypercall(bed, d, c as never) as Answer as AnswerOf<C['op']>; // one op, its answer
  return { call, multicall: (calls) => calls.map((c) => call(c)) };
}

export const gpuPolicies = (some: Partial<ModelPolicies>): ModelPolicies => ({
  ...defaultPolicies,
  iommuTables: 'separate',
  ...some,
});

/** Host RAM of 64 MiB, 1024 bus frames, one GPU unless overridden. */
export function bootGpuHost(some: Partial<ModelPolicies>, overrides: Partial<HostConfig> = {}): Testbed {
  const [gpu] = smallConfig().devices;
  return bootTestbed({
    frames: 16_384,
    busFrames: 1024,
    mediatedGpus: [testGpu],
    devices: gpu ? [gpu, { ...gpu, sbdf: otherGpu.sbdf, name: 'gpu2' }] : [],
    policies: gpuPolicies(some),
    ...overrides,
  });
}

/** A guest with RAM at gfns [0, pages) by 4K, each page holding its own gfn + 1. */
export function gpuGuest(bed: Testbed, pages: number, iommu = false): Domain {
  const d = makeGuest(bed, { maxPages: pages, iommu });
  const { domid } = d;
  const extents = { start: 0, count: pages };
  const { rc } = hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
  if (rc !== pages) throw new Error(`populate: ${rc}`);
  for (let g = 0; g < pages; g++) hypercall(bed, d, { op: 'store', frames: { start: g, count: 1 }, tag: g + 1 });
  return d;
}

export interface VirtualGpu {
  readonly gpu: GpuState;
  readonly mediator: Mediator;
  readonly driver: GuestGpu;
}

const mediators = new WeakMap<Host, Map<number, Mediator>>();

export function mediatorOf(bed: Testbed, index = 0): Mediator {
  const known = mediators.get(bed.h) ?? new Map<number, Mediator>();
  mediators.set(bed.h, known);
  const mediator = known.get(index) ?? new Mediator(bed.h, portOf(bed, bed.dom0), gpuOf(bed, index));
  known.set(index, mediator);
  return mediator;
}

export function gpuOf(bed: Testbed, index = 0): GpuState {
  const gpu = bed.h.gpus.all[index];
  if (!gpu) throw new Error(`no mediated GPU ${index}`);
  return gpu;
}

/** A quarter of the GPU's graphics memory for the guest, and its driver. */
export function addVirtualGpu(bed: Testbed, d: Domain, index = 0): VirtualGpu {
  const mediator = mediatorOf(bed, index);
  const gpu = gpuOf(bed, index);
  const { aperturePages, gmPages } = gpu.config;
  const rc = mediator.attach(d.domid, aperturePages / 4, (gmPages - aperturePages) / 4);
  if (rc !== 0) throw new Error(`attach: ${rc}`);
  return { gpu, mediator, driver: new GuestGpu(bed.h, d, gpu, () => mediator.serve()) };
}

/** The guest's page table at gfns 0…3 over `gfns` from page 0 of its graphics memory, ready to run. */
export function startPpgtt(v: VirtualGpu, gfns: readonly number[]): void {
  const steps = [v.driver.buildTable([0, 1, 2, 3], gfns), v.driver.createRoot(0, 0), v.driver.submit(0)];
  if (steps.some((rc) => rc !== 0)) throw new Error(`startPpgtt: ${steps.join(', ')}`);
}

export function engineOn(bed: Testbed, index = 0): GpuEngine {
  const h = new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.log);
  return new GpuEngine(h, gpuOf(bed, index), 0);
}

/** One write of the guest's GPU through its page table. */
export const gpuWrite = (engine: GpuEngine, d: Domain, page: number, tag: number): number =>
  engine.access({ slot: d.slot, context: 0, page, write: true, tag });
