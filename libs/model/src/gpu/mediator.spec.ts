import { describe, expect, it } from 'vitest';
import {
  addVirtualGpu,
  bootGpuHost,
  engineOn,
  gpuGuest,
  gpuWrite,
  portOf,
  startPpgtt,
  testGpu,
  type VirtualGpu,
} from '../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import type { ModelPolicies } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { faultReason } from '../iommu/vtd/fault-text.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { exposure } from './bus-view.ts';
import { GLOBAL, GPU_PAGE_FAULT, type GpuEngine } from './gpu-engine.ts';
import { makePte } from './pte.ts';
import { TrackedTables, tableState } from './tracked-tables.ts';

const RW = 3;
const FRAMES = [20, 21, 22, 23];

interface Started {
  readonly bed: Testbed;
  readonly d: Domain;
  readonly v: VirtualGpu;
  readonly engine: GpuEngine;
}

function started(some: Partial<ModelPolicies>): Started {
  const bed = bootGpuHost(some);
  const d = gpuGuest(bed, 128);
  const v = addVirtualGpu(bed, d);
  startPpgtt(v, FRAMES);
  return { bed, d, v, engine: engineOn(bed) };
}

const tagOf = (bed: Testbed, d: Domain, gfn: number): number =>
  hypercall(bed, d, { op: 'load', frames: { start: gfn, count: 1 } }).tags?.[0] ?? -2;
const typeOf = (bed: Testbed, d: Domain, gfn: number): number => {
  const leaf = new Leaf();
  peekEntry(bed.h, d, gfn, leaf);
  return leaf.type;
};

for (const mediated of ['A', 'B', 'C'] as const) {
  describe(`design ${mediated}`, () => {
    it('leads the GPU to the frames that the guest’s tables name, and leaves a sound host', () => {
      const { bed, d, engine } = started({ mediated });
      for (const [page, gfn] of FRAMES.entries()) {
        expect(gpuWrite(engine, d, page, 500 + page)).toBe(0);
        expect(tagOf(bed, d, gfn)).toBe(500 + page);
      }
      expect(gpuWrite(engine, d, 4, 1)).toBe(GPU_PAGE_FAULT);
      expect(bed.log.violations).toEqual([]);
      expectSound(bed);
    });

    it('traps a write to a table and has the shadow follow before the guest goes on', () => {
      const { bed, d, v, engine } = started({ mediated, gpuShadow: 'strict' });
      expect([0, 1, 2, 3].map((gfn) => typeOf(bed, d, gfn))).toEqual(Array(4).fill(p2mType.ioreqServer));
      const before = bed.h.counters.read('gpu.ioreq');
      expect(v.driver.storePte(3, 1, makePte(40, RW))).toBe(0);
      expect(bed.h.counters.read('gpu.ioreq') - before).toBe(1);
      expectSound(bed);
      v.driver.submit(0);
      gpuWrite(engine, d, 1, 77);
      expect([tagOf(bed, d, 40), tagOf(bed, d, 21)]).toEqual([77, 22]);
    });

    it('sees a write to a table that does not trap at the next submission', () => {
      const { bed, d, v, engine } = started({ mediated, gpuShadow: 'relaxed' });
      expect(typeOf(bed, d, 3)).toBe(p2mType.ramRw);
      v.driver.storePte(3, 1, makePte(40, RW));
      expect(bed.h.counters.read('gpu.ioreq')).toBe(0);
      gpuWrite(engine, d, 1, 76);
      expect(tagOf(bed, d, 21)).toBe(76);
      v.driver.submit(0);
      gpuWrite(engine, d, 1, 77);
      expect(tagOf(bed, d, 40)).toBe(77);
      expectSound(bed);
    });

    it('gives everything back when the guest leaves', () => {
      const { bed, d, v } = started({ mediated });
      expect(v.mediator.detach(d.domid)).toBe(0);
      expect(v.gpu.frames.size).toBe(0);
      expect([bed.dom0.r.nrForeign, d.r.ioreqEntryCount, [...bed.h.pvIommu.records()].length]).toEqual([0, 0, 0]);
      for (let g = 0; g < 128; g++) {
        expect(bed.h.frames.count[peekEntry(bed.h, d, g, new Leaf())]).toBe(1);
      }
      expectSound(bed);
    });

    it('points an entry that names nothing of the guest’s nowhere', () => {
      const { bed, d, v, engine } = started({ mediated });
      for (const gfn of [4000, 2 ** 36 + 5, 2 ** 40]) {
        v.driver.storePte(3, 0, makePte(gfn, RW));
        v.driver.submit(0);
        expect([GPU_PAGE_FAULT, faultReason.beyondWidth, faultReason.noWrite]).toContain(gpuWrite(engine, d, 0, 9));
      }
      expect(bed.log.violations).toEqual([]);
      expectSound(bed);
    });
  });
}

describe('the mediator', () => {
  it('stops trapping a table that is written often, and traps it again when it has been quiet (hybrid)', () => {
    const { bed, d, v, engine } = started({ gpuShadow: 'hybrid' });
    const tables = new TrackedTables(v.gpu);
    const leaf = tables.find(d.slot, 3);
    for (let i = 0; i < 40; i++) v.driver.storePte(3, 10 + i, makePte(30 + i, RW));
    expect([tables.get(leaf, 'state'), typeOf(bed, d, 3)]).toEqual([tableState.oos, p2mType.ramRw]);
    expect(bed.h.counters.read('gpu.ioreq')).toBe(32);
    v.driver.submit(0);
    expect(gpuWrite(engine, d, 49, 5)).toBe(0);
    expect(tagOf(bed, d, 69)).toBe(5);
    for (let i = 0; i < 4; i++) v.driver.submit(0);
    expect([tables.get(leaf, 'state'), typeOf(bed, d, 3)]).toEqual([tableState.strict, p2mType.ioreqServer]);
    expectSound(bed);
  });

  it('keeps a guest’s global entries inside its slices, and aperture accesses too', () => {
    const { bed, d, v, engine } = started({});
    const other = gpuGuest(bed, 128);
    const w = addVirtualGpu(bed, other);
    const theirs = w.mediator.partitionOf(other.slot).mappable.base;
    expect(v.driver.writeGlobal(2, 50)).toBe(0);
    w.driver.writeGlobal(theirs, 51);
    v.driver.writeGlobal(theirs, 52);
    v.driver.submit(GLOBAL);
    expect(engine.access({ slot: other.slot, context: GLOBAL, page: theirs, write: true, tag: 8 })).toBe(0);
    expect([tagOf(bed, other, 51), tagOf(bed, d, 52)]).toEqual([8, 53]);
    const address = (page: number): number => testGpu.apertureBase + page * 4096;
    expect(engine.aperture(d.slot, address(2), true, 6)).toBe(0);
    expect(engine.aperture(d.slot, address(theirs), true, 6)).toBe(GPU_PAGE_FAULT);
    expect([tagOf(bed, d, 50), tagOf(bed, other, 51)]).toEqual([6, 8]);
    expectSound(bed);
  });

  it('answers a guest’s mistakes with an errno', () => {
    const { bed, d, v } = started({});
    const { EBUSY, EINVAL, ENOENT, ENOMEM, EEXIST, ESRCH, EFAULT } = errno;
    expect(v.driver.createRoot(0, 60)).toBe(-EBUSY);
    expect(v.driver.createRoot(9, 60)).toBe(-EINVAL);
    expect(v.driver.createRoot(1, 4000)).toBe(-ENOMEM);
    expect(v.driver.createRoot(1, 3)).toBe(-ENOMEM);
    expect(v.driver.destroyRoot(2)).toBe(-EINVAL);
    expect(v.driver.submit(3)).toBe(-ENOENT);
    expect(v.driver.storePte(4000, 0, 1)).toBe(-EFAULT);
    expect(v.mediator.attach(d.domid, 1, 1)).toBe(-EEXIST);
    expect(v.mediator.attach(99, 1, 1)).toBe(-ESRCH);
    expectSound(bed);
  });

  it('survives a table that names itself, and one used by two roots', () => {
    const { bed, d, v, engine } = started({});
    v.driver.storePte(2, 7, makePte(2, RW));
    v.driver.storePte(1, 7, makePte(0, RW));
    v.driver.storePte(60, 0, makePte(1, RW));
    expect(v.driver.createRoot(1, 60)).toBe(0);
    expectSound(bed);
    expect(v.driver.destroyRoot(0)).toBe(0);
    v.driver.submit(1);
    expect(engine.access({ slot: d.slot, context: 1, page: 0, write: true, tag: 4 })).toBe(0);
    expect(tagOf(bed, d, 20)).toBe(4);
    expectSound(bed);
    v.driver.destroyRoot(1);
    expect(v.gpu.frames.size).toBe(0);
    expectSound(bed);
  });

  it('makes a guest’s tables anew after memory has left it', () => {
    const { bed, d, v, engine } = started({ mediated: 'C' });
    const extents = { start: 21, count: 1 };
    expect(v.driver.balloonOut(portOf(bed, d), [21])).toBe(1);
    expect(gpuWrite(engine, d, 0, 1)).toBe(GPU_PAGE_FAULT);
    v.driver.submit(0);
    expect(gpuWrite(engine, d, 0, 1)).toBe(0);
    expect(gpuWrite(engine, d, 1, 1)).toBe(faultReason.beyondWidth);
    hypercall(bed, d, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents });
    v.driver.storePte(3, 1, makePte(22, RW));
    v.driver.storePte(3, 1, makePte(21, RW));
    v.driver.invalidateTlb();
    expect(gpuWrite(engine, d, 1, 3)).toBe(0);
    expect(tagOf(bed, d, 21)).toBe(3);
    expectSound(bed);
  });
});

it('the GPU reaches all of RAM in design A, and beyond what is shadowed only mapped tables in B and C', () => {
  const figures = (['A', 'B', 'C'] as const).map((mediated) => {
    const { bed, v } = started({ mediated });
    const { shadowed, beyond, free } = exposure(bed.h, v.gpu);
    return { mediated, shadowed, beyond, free: free > 0, all: beyond > 10_000 };
  });
  expect(figures).toEqual([
    { mediated: 'A', shadowed: 4, beyond: expect.any(Number), free: true, all: true },
    { mediated: 'B', shadowed: 4, beyond: 4, free: false, all: false },
    { mediated: 'C', shadowed: 4, beyond: 4, free: false, all: false },
  ]);
});
