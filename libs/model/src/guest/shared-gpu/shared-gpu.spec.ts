// The kernels' tasks for a shared GPU, over the same calls as on a live host, on one thread: what each order reports, in each design
// and with each mistake.
import { describe, expect, it } from 'vitest';
import { bootGpuHost, gpuGuest, otherGpu, testGpu } from '../../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, type Testbed } from '../../../test-support/hypercall-fixture.ts';
import { deviceConfig } from '../../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../../test-support/p2m-fixture.ts';
import { type FiguresSink, SharedGpus } from '../../../test-support/shared-gpu-fixture.ts';
import type { Domain } from '../../domain/domain.ts';
import { type Sbdf, sbdf } from '../../frames/addresses.ts';
import type { HostConfig, ModelPolicies } from '../../host-config.ts';
import { checkInvariants } from '../../invariants/check.ts';
import { changeGuest } from './mediator-task.ts';
import type { GpuFigures, VgpuAct } from './spec.ts';
import { VgpuDriver } from './vgpu-driver.ts';

const GPU = testGpu.sbdf;
const PAGES = 96;
const FIRST = 32;
const FRAMES = 8;

interface Kernel {
  readonly d: Domain;
  readonly driver: VgpuDriver;
  order(what: VgpuAct, attempts?: number): GpuFigures;
}

function kernel(gpus: SharedGpus, device: Sbdf = GPU, pagesGfn: number | null = null, of?: Domain): Kernel {
  const d = of ?? gpuGuest(gpus.bed, PAGES, true);
  const context = gpus.context(d, PAGES);
  const firstGfn = pagesGfn === null ? FIRST : FIRST + 32;
  const driver = new VgpuDriver(context, { id: 'vgpu', kind: 'vgpu', device, firstGfn, pagesGfn, frames: FRAMES });
  const order = (what: VgpuAct, attempts = 1): GpuFigures => {
    driver.request({ id: 'o', device, act: { what, attempts } });
    for (let i = 0; i < 1000 && !last(context.sink)?.over; i++) driver.step(0);
    const figures = last(context.sink);
    context.sink.figures.length = 0;
    if (!figures) throw new Error(`${what} reported nothing`);
    return figures;
  };
  return { d, driver, order };
}

const last = (sink: FiguresSink): GpuFigures | undefined => sink.last;
const events = (bed: Testbed): string[] => [...new Set(bed.log.violations.map(({ invariant }) => invariant))];
const states = (bed: Testbed): string[] => [...new Set(checkInvariants(bed.h).map(({ invariant }) => invariant))];

function host(some: Partial<ModelPolicies>, overrides: Partial<HostConfig> = {}): SharedGpus {
  return new SharedGpus(bootGpuHost(some, overrides));
}

describe.each(['A', 'B', 'C'] as const)('design %s', (mediated) => {
  it.each(['strict', 'relaxed', 'hybrid'] as const)(
    'two guests render and point their tables at other pages: each finds what its GPU wrote (%s)',
    (gpuShadow) => {
      const gpus = host({ mediated, gpuShadow });
      const [a, b] = [kernel(gpus), kernel(gpus)];
      for (const { d } of [a, b]) expect(gpus.attach(d, GPU)).toBe(0);
      for (const act of ['render', 'remap', 'render', 'remap'] as const) {
        for (const { order } of [a, b]) {
          expect(order(act, 6)).toMatchObject({ rc: 0, made: 6, completed: 6 * FRAMES, lost: 0, busFaults: 0 });
        }
      }
      expect(events(gpus.bed)).toEqual([]);
      expectSound(gpus.bed);
    },
  );
});

describe('balloon', () => {
  it.each(['B', 'C'] as const)(
    '%s: a reference holds the page, and the CPU finds what is written afterwards',
    (mediated) => {
      const gpus = host({ mediated });
      const { d, order } = kernel(gpus);
      gpus.attach(d, GPU);
      expect(order('balloon', 10)).toMatchObject({ rc: 0, made: 10, lost: 0, busFaults: 0 });
      expect(events(gpus.bed)).toEqual([]);
      expectSound(gpus.bed);
    },
  );

  it('A: the GPU writes a page that is free already', () => {
    const gpus = host({ mediated: 'A' });
    const { d, order } = kernel(gpus);
    gpus.attach(d, GPU);
    // The GPU works between Xen's answer and its INVALIDATE.
    gpus.after = (op) => {
      if (op === 'decrease_reservation') gpus.runner.runBurst(64);
    };
    order('balloon', 4);
    expect(events(gpus.bed)).toEqual(['noGpuReachIntoFreedFrame']);
  });

  it('a mediator that does not hear of it: the guest never sees what its GPU writes', () => {
    const gpus = host({ mediated: 'C', mediator: 'no-invalidate', gpuShadow: 'strict' });
    const { d, order } = kernel(gpus);
    gpus.attach(d, GPU);
    // The old pages are held, and count.
    d.r.maxPages += 3;
    expect(order('balloon', 3).lost).toBe(1 + 2 + 3);
    expect(states(gpus.bed)).toContain('shadowAgreesWithGuestTable');
  });

  it('drop-in-op: every page is free before the batch is flushed', () => {
    const gpus = host({ mediated: 'B', pvIommu: 'drop-in-op' });
    const { d, order } = kernel(gpus);
    gpus.attach(d, GPU);
    order('balloon', 3);
    expect(gpus.bed.log.violations.map(({ invariant }) => invariant)).toEqual(
      Array(3).fill('noFrameFreedWhileAnyTlbHoldsIt'),
    );
  });
});

it('gpa: the guest that was there first finds its pages unwritten', () => {
  const gpus = host({ mediated: 'gpa' });
  const [a, b] = [kernel(gpus), kernel(gpus)];
  for (const { d } of [a, b]) gpus.attach(d, GPU);
  expect(a.order('render', 2).lost).toBe(0);
  expect(b.order('render', 2).lost).toBe(0);
  expect(a.order('render', 2)).toMatchObject({ rc: 0, lost: 2 * FRAMES });
  expect(events(gpus.bed)).toEqual(['noGpuReachIntoForeignFrame']);
});

it('a function of one’s own: the same orders, and nobody is asked', () => {
  const vf = sbdf(0, 0, 2, 1);
  const devices = [...smallConfig().devices, deviceConfig(vf, 'vf', { physicalFunction: GPU, pciClass: 0x030000 })];
  const gpus = host({}, { devices });
  const { d, order } = kernel(gpus, vf);
  hypercall(gpus.bed, gpus.bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: vf, flags: 0 });
  expect(order('render', 5)).toMatchObject({ rc: 0, made: 5, completed: 5 * FRAMES, lost: 0 });
  expect(order('remap', 5)).toMatchObject({ rc: 0, made: 5, lost: 0 });
  expect(gpus.bed.h.counters.read('gpu.shadowWrite')).toBe(0);
  expectSound(gpus.bed);
});

describe('two GPUs, one buffer', () => {
  const two = (pvIommu: ModelPolicies['pvIommu']): { gpus: SharedGpus; first: Kernel; second: Kernel } => {
    const gpus = host({ mediated: 'B', pvIommu }, { mediatedGpus: [testGpu, otherGpu] });
    const first = kernel(gpus);
    const second = kernel(gpus, otherGpu.sbdf, FIRST + 4, first.d);
    gpus.attach(first.d, GPU);
    gpus.attach(first.d, otherGpu.sbdf);
    first.order('render');
    second.order('run');
    second.driver.step(0);
    first.order('remap');
    second.driver.step(0);
    return { gpus, first, second };
  };

  it('right: the second one goes on when the first has let go', () => {
    const { gpus, second } = two('right');
    expect(second.order('halt')).toMatchObject({ rc: 0, completed: 2 * FRAMES, busFaults: 0, lost: 0 });
    expectSound(gpus.bed);
  });

  it('one-flag: the second one is refused its pages', () => {
    expect(two('one-flag').second.order('halt').busFaults).toBe(1);
  });
});

it('a guest without a part of the GPU is told so, and dom0 why it gives none', () => {
  const gpus = host({ mediated: 'C' });
  const { d, order } = kernel(gpus);
  expect(order('render').rc).toBeLessThan(0);
  const context = gpus.context(gpus.bed.dom0, PAGES);
  const act = { what: 'attach', domid: d.domid, mappable: 1_000_000, unmappable: 0 } as const;
  changeGuest(context, { id: 'o', device: GPU, act });
  changeGuest(context, { id: 'o', device: GPU, act: { what: 'detach', domid: d.domid } });
  expect(context.sink.figures.map(({ rc, over }) => [rc < 0, over])).toEqual([
    [true, true],
    [true, true],
  ]);
});

it('a driver that is unloaded leaves no table tracked and no page mapped', () => {
  const gpus = host({ mediated: 'B' });
  const { d, driver, order } = kernel(gpus);
  gpus.attach(d, GPU);
  order('render', 2);
  driver.stop();
  expect(gpus.bed.h.pvIommu.records().next().done).toBe(true);
  expectSound(gpus.bed);
});
