// Every step of iommu_op that can fail is made to fail once: the call answers, and the host is sound after it.
import { beforeAll, expect, it } from 'vitest';
import { bootGpuHost, gpuGuest } from '../../test-support/gpu-fixture.ts';
import { expectSound, hypercall } from '../../test-support/hypercall-fixture.ts';
import { installSeam, stepKind } from '../shared-memory/step.ts';
import type { IommuOp } from './calls.ts';
import { errno } from './errno.ts';

const fallible = new Map<number, number>([
  [stepKind.ptAlloc, errno.ENOMEM],
  [stepKind.ioWrite, errno.ENOMEM],
  [stepKind.refTake, errno.EINVAL],
]);
let armed = false;
let seen = 0;
let failAt = -1;

beforeAll(() => {
  installSeam({
    step: (kind) => {
      const error = armed ? fallible.get(kind) : undefined;
      return error !== undefined && seen++ === failAt ? error : 0;
    },
  });
});

it('a failing step leaves no reference, record or I/O entry behind', () => {
  let sites = 0;
  let refused = 0;
  for (failAt = 0; failAt === 0 || failAt < sites; failAt++) {
    const bed = bootGpuHost({ mediated: 'B' });
    const d = gpuGuest(bed, 16);
    const { base } = bed.h.pvIommu;
    const op = (kind: IommuOp['kind'], bfn: number, gfn: number): IommuOp => ({
      kind,
      bfn,
      gfn,
      domid: d.domid,
      flags: 11,
    });
    seen = 0;
    armed = true;
    const ops = [
      op('map_foreign_page', base, 1),
      op('map_foreign_page', base + 600, 2),
      op('lookup_foreign_page', 0, 1),
      op('unmap_foreign_page', base, 0),
      op('unmap_foreign_page', base, 0),
      op('map_foreign_page', base, 3),
      op('unmap_foreign_page', base + 600, 0),
    ];
    const { statuses } = hypercall(bed, bed.dom0, { op: 'iommu_op', ops });
    armed = false;
    sites = Math.max(sites, seen);
    if (statuses?.some((n) => n < 0)) refused++;
    expectSound(bed);
  }
  expect(sites).toBeGreaterThan(8);
  expect(refused).toBeGreaterThan(5);
});
