// dom0's driver with bus frames of its own: what a batch leaves behind when it is done right, and with each historic mistake. The card
// writes between any two calls.
import { describe, expect, it } from 'vitest';
import { bootGpuHost, otherGpu } from '../../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, type Testbed } from '../../../test-support/hypercall-fixture.ts';
import { SharedGpus } from '../../../test-support/shared-gpu-fixture.ts';
import type { ModelPolicies } from '../../host-config.ts';
import { BusDriver } from './bus-driver.ts';
import type { BusAct, GpuFigures } from './spec.ts';

const PAGES = 256;

function play(
  pvIommu: ModelPolicies['pvIommu'],
  what: BusAct,
  running = true,
): {
  readonly bed: Testbed;
  readonly figures: GpuFigures;
  readonly lost: number;
} {
  const bed = bootGpuHost({ pvIommu });
  const before = bed.dom0.r.totPages;
  const extents = { start: 0, count: PAGES };
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: 0x7ff0, order: 0, memFlags: 0, extents });
  const gpus = new SharedGpus(bed);
  gpus.after = () => void gpus.devices.runBurst(256);
  const context = gpus.context(bed.dom0, PAGES);
  const driver = new BusDriver(context);
  driver.request({
    id: 'o',
    device: otherGpu.sbdf,
    act: { what, attempts: 64, firstBfn: bed.h.pvIommu.base, running },
  });
  driver.step(0);
  const figures = context.sink.last;
  if (!figures) throw new Error('no report');
  return { bed, figures, lost: before + PAGES - bed.dom0.r.totPages };
}

const named = (bed: Testbed, invariant: string): number =>
  bed.log.violations.filter((violation) => violation.invariant === invariant).length;

describe.each(['reuse', 'release'] as const)('%s', (what) => {
  it.each([true, false])(
    'right: all pages are freed after the flush, and dom0 has its memory back (card runs: %s)',
    (running) => {
      const { bed, figures, lost } = play('right', what, running);
      expect(figures).toMatchObject({ rc: 0, made: 64, over: true, lost: 0 });
      expect(figures.completed).toBeGreaterThanOrEqual(64);
      if (!running) expect(figures.busFaults).toBe(0);
      expect(bed.log.violations).toEqual([]);
      expect(lost).toBe(0);
      expectSound(bed);
    },
  );
});

it('drop-in-op: each page is free while the IOTLB still has it', () => {
  const { bed, figures } = play('drop-in-op', 'release');
  expect([figures.rc, named(bed, 'noFrameFreedWhileAnyTlbHoldsIt')]).toEqual([0, 64]);
});

it('reuse-unflushed: each bus frame is mapped again before its old translation is gone', () => {
  const { bed, figures } = play('reuse-unflushed', 'reuse');
  expect(figures.rc).toBe(0);
  expect([named(bed, 'busFrameIsCleanBeforeReuse'), named(bed, 'noFrameFreedWhileAnyTlbHoldsIt')]).toEqual([64, 64]);
});
