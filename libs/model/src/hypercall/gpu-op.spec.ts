// A guest's calls about a GPU that it shares, and the mediator's, one by one.
import { describe, expect, it } from 'vitest';
import { bootGpuHost, gpuGuest, gpuOf, otherGpu, testGpu } from '../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, slice, type Testbed } from '../../test-support/hypercall-fixture.ts';
import { deviceConfig } from '../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import { SharedGpus } from '../../test-support/shared-gpu-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { sbdf } from '../frames/addresses.ts';
import type { ModelPolicies } from '../host-config.ts';
import { errno } from './errno.ts';
import type { TableEntry } from './gpu-calls.ts';

const GPU = testGpu.sbdf;
const VF = sbdf(0, 0, 2, 1);
const RW = 3;
const entry = (gfn: number, index: number, frame: number): TableEntry => ({ gfn, index, frame, bits: RW });
/** Four tables at gfns 0…3 over two pages. */
const TABLE = [entry(0, 0, 1), entry(1, 0, 2), entry(2, 0, 3), entry(3, 0, 20), entry(3, 1, 21)];

interface Stage {
  readonly bed: Testbed;
  readonly d: Domain;
  readonly gpus: SharedGpus;
}

function stage(some: Partial<ModelPolicies> = {}): Stage {
  const devices = [...smallConfig().devices, deviceConfig(VF, 'vf', { physicalFunction: GPU, pciClass: 0x030000 })];
  const bed = bootGpuHost(some, { devices });
  const d = gpuGuest(bed, 64, true);
  return { bed, d, gpus: new SharedGpus(bed) };
}

const start = (device = GPU, root = 0, passes = 1) =>
  ({ op: 'gpu_job_start', device, root, page: 0, pages: 2, write: true, tag: 7, passes }) as const;

/** A guest with a table that its mediator shadows. */
function shadowed(some: Partial<ModelPolicies> = {}): Stage {
  const all = stage({ mediated: 'C', gpuShadow: 'strict', ...some });
  const port = all.gpus.port(all.d);
  expect(all.gpus.attach(all.d, GPU)).toBe(0);
  expect(port.call({ op: 'gpu_table_write', device: GPU, entries: TABLE })).toEqual({ rc: 0, written: 5 });
  expect(port.call({ op: 'gpu_request', device: GPU, kind: 'create-root', a: 0, b: 0 }).rc).toBe(0);
  return all;
}

describe('who may', () => {
  it('only a guest that was given a part of the GPU; only dom0 gives one', () => {
    const { bed, d, gpus } = stage();
    const write = { op: 'gpu_table_write', device: GPU, entries: TABLE } as const;
    expect(hypercall(bed, d, write).rc).toBe(-errno.ENODEV);
    expect(hypercall(bed, d, { ...write, device: 0xffff }).rc).toBe(-errno.ENODEV);
    // A device of the host that nobody shares, and a function that is dom0's.
    expect(hypercall(bed, d, { ...write, device: otherGpu.sbdf }).rc).toBe(-errno.ENODEV);
    expect(hypercall(bed, d, { ...write, device: VF }).rc).toBe(-errno.EPERM);
    const attach = { op: 'gpu_attach', device: GPU, domid: d.domid, mappable: 4, unmappable: 4 } as const;
    expect(hypercall(bed, d, attach).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'gpu_serve', device: GPU, wait: true }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, bed.dom0, { ...attach, device: VF }).rc).toBe(-errno.ENODEV);
    expect(hypercall(bed, bed.dom0, { ...attach, domid: 77 }).rc).toBe(-errno.ESRCH);
    expect(gpus.attach(d, GPU)).toBe(0);
    expect(gpus.attach(d, GPU)).toBe(-errno.EEXIST);
    expect(hypercall(bed, d, write)).toEqual({ rc: 0, written: 5 });
  });

  it('nobody with a payload that is none', () => {
    const { bed, d } = shadowed();
    const write = (entries: unknown) => hypercall(bed, d, { op: 'gpu_table_write', device: GPU, entries } as never).rc;
    expect(write(null)).toBe(-errno.EFAULT);
    for (const bad of [null, entry(0, 512, 1), entry(0, -1, 1), entry(2 ** 60, 0, 1), { ...entry(0, 0, 1), bits: 4 }]) {
      expect(write([bad])).toBe(-errno.EINVAL);
    }
    expect(write([entry(5000, 0, 1)])).toBe(-errno.EFAULT);
    for (const bad of [{ root: 4 }, { pages: 0 }, { passes: -1 }, { tag: 0.5 }, { write: 1 }]) {
      expect(hypercall(bed, d, { ...start(), ...bad } as never).rc).toBe(-errno.EINVAL);
    }
    const request = { op: 'gpu_request', device: GPU, kind: 'toString', a: 0, b: 0 } as never;
    expect(hypercall(bed, d, request)).toEqual({ rc: -errno.EINVAL });
    expectSound(bed);
  });
});

describe('a write to a protected table', () => {
  it('waits for the mediator without a CPU, and goes on when it has answered', () => {
    const { bed, d } = shadowed();
    const before = bed.h.counters.read('gpu.ioreq');
    const write = { op: 'gpu_table_write', device: GPU, entries: [entry(3, 2, 22), entry(3, 3, 23)] } as const;
    const first = slice(bed, d, write);
    expect(first).toMatchObject({ end: 'blocked', on: { on: 'gpu', gpu: 0 }, state: { at: 0, stage: 1 } });
    // Looked at too early it waits on.
    expect(slice(bed, d, write, 'state' in first ? first.state : null).end).toBe('blocked');
    expect(hypercall(bed, bed.dom0, { op: 'gpu_serve', device: GPU, wait: false })).toEqual({ rc: 0, served: 1 });
    const second = slice(bed, d, write, 'state' in first ? first.state : null);
    expect(second).toMatchObject({ end: 'blocked', state: { at: 1, stage: 1 } });
    hypercall(bed, bed.dom0, { op: 'gpu_serve', device: GPU, wait: false });
    const third = slice(bed, d, write, 'state' in second ? second.state : null);
    expect(third).toEqual({ end: 'done', answer: { rc: 0, written: 2 } });
    expect(bed.h.counters.read('gpu.ioreq') - before).toBe(2);
    expectSound(bed);
  });

  it('ends with -ENODEV when the guest loses its part meanwhile, and a new part begins clean', () => {
    const { bed, d, gpus } = shadowed();
    const write = { op: 'gpu_table_write', device: GPU, entries: [entry(3, 2, 22)] } as const;
    const first = slice(bed, d, write);
    expect(hypercall(bed, bed.dom0, { op: 'gpu_detach', device: GPU, domid: d.domid }).rc).toBe(0);
    const state = 'state' in first ? first.state : null;
    expect(slice(bed, d, write, state)).toEqual({ end: 'done', answer: { rc: -errno.ENODEV } });
    expect(gpus.attach(d, GPU)).toBe(0);
    expect(gpus.port(d).call(write)).toEqual({ rc: 0, written: 1 });
  });

  it('of another vCPU, while one is asked for, tries again', () => {
    const { bed, d } = shadowed();
    slice(bed, d, { op: 'gpu_table_write', device: GPU, entries: [entry(3, 2, 22)] });
    expect(slice(bed, d, { op: 'gpu_request', device: GPU, kind: 'submit', a: 0, b: 0 }).end).toBe('continue');
  });

  it('is what a mediator that waits is woken by', () => {
    const { bed, d } = shadowed();
    const serve = { op: 'gpu_serve', device: GPU, wait: true } as const;
    const idle = slice(bed, bed.dom0, serve);
    expect(idle).toMatchObject({ end: 'blocked', on: { on: 'gpu', gpu: 0 } });
    slice(bed, d, { op: 'gpu_table_write', device: GPU, entries: [entry(3, 2, 22)] });
    expect(slice(bed, bed.dom0, serve)).toEqual({ end: 'done', answer: { rc: 0, served: 1 } });
  });
});

describe('a job', () => {
  it('is one at a time, and its figures are given once', () => {
    const { bed, d, gpus } = shadowed();
    const wait = { op: 'gpu_job_wait', device: GPU, stop: false } as const;
    expect(hypercall(bed, d, wait).rc).toBe(-errno.ENOENT);
    expect(hypercall(bed, d, start()).rc).toBe(0);
    expect(hypercall(bed, d, start()).rc).toBe(-errno.EBUSY);
    expect(slice(bed, d, wait).end).toBe('blocked');
    expect(gpus.port(d).call(wait)).toMatchObject({ rc: 0, completed: 2, pageFaults: 0, busFaults: 0 });
    expect(hypercall(bed, d, wait).rc).toBe(-errno.ENOENT);
    expect(gpus.port(d).call({ op: 'load', frames: { start: 20, count: 2 } }).tags).toEqual([7, 7]);
  });

  it('without an end goes on until it is told to stop, or its guest is no more', () => {
    const { bed, d, gpus } = shadowed();
    hypercall(bed, d, start(GPU, 0, 0));
    for (let i = 0; i < 5; i++) expect(gpus.runner.runBurst(64)).toBe(0);
    const stopped = gpus.port(d).call({ op: 'gpu_job_wait', device: GPU, stop: true });
    expect(stopped.completed).toBeGreaterThan(5);
    hypercall(bed, d, start(GPU, 0, 0));
    gpus.runner.runBurst(64);
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid });
    hypercall(bed, bed.dom0, { op: 'gpu_detach', device: GPU, domid: d.domid });
    expect(bed.h.domain(d.domid)).toBeNull();
    gpus.runner.runBurst(64);
    expect(gpus.runner.runBurst(64)).toBe(Number.POSITIVE_INFINITY);
    expectSound(bed);
  });

  it('hangs at a fault of the bus; the next one starts on a GPU that was reset', () => {
    const { bed, d, gpus } = shadowed();
    const bus = gpuOf(bed).frames.busOf(d.slot, 20);
    hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0x7ff0, gpfn: bus });
    for (let i = 0; i < 40; i++) {
      hypercall(bed, d, start());
      const hung = gpus.port(d).call({ op: 'gpu_job_wait', device: GPU, stop: false });
      expect(hung).toMatchObject({ rc: -errno.EIO, completed: 0, busFaults: 1, firstFaultDfn: bus });
    }
  });

  it('runs on a function of the guest’s own without anybody’s help', () => {
    const { bed, d, gpus } = stage();
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: VF, flags: 0 }).rc).toBe(0);
    const port = gpus.port(d);
    expect(port.call({ op: 'gpu_request', device: VF, kind: 'submit', a: 0, b: 0 }).rc).toBe(-errno.EOPNOTSUPP);
    expect(port.call({ op: 'gpu_table_write', device: VF, entries: TABLE }).rc).toBe(0);
    expect(port.call(start(VF, 0)).rc).toBe(0);
    expect(port.call({ op: 'gpu_job_wait', device: VF, stop: false })).toMatchObject({ rc: 0, completed: 2 });
    expect(bed.h.counters.read('gpu.ioreq')).toBe(0);
    expectSound(bed);
  });
});
