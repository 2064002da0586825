// One call of the mediator takes a bus frame from one guest's page and gives it to another's. A job still has the old translation in
// the IOTLB.
import { holds, litmus, violates } from '#explore/litmus';
import { GPU } from '#explore/machine';
import type { IommuOp } from '#model/hypercall/calls';
import { iommuOpFlag } from '#model/iommu/pv-iommu';
import { sharedGpu } from '../starts/shared-gpu.ts';

const PAGE = 512;
/** The first bus frame above RAM. */
const BUS_FRAME = 2 ** 18;

const map = (domid: number): IommuOp => ({
  kind: 'map_foreign_page',
  bfn: BUS_FRAME,
  gfn: PAGE,
  domid,
  flags: iommuOpFlag.readable | iommuOpFlag.writeable,
});
const unmap: IommuOp = { kind: 'unmap_foreign_page', bfn: BUS_FRAME, gfn: 0, domid: 0, flags: 0 };

export default litmus({
  title: 'A bus frame is used again before the flush',
  source: 'PV-IOMMU (xen-devel, 2014 to 2016); the shape of XSA-346',
  advisory: { id: 'S3c', kind: 'race', grain: 'model' },
  machine: sharedGpu,
  start(s) {
    const ram = [{ gfn: PAGE, pages: 1 }];
    const [old, next] = [s.guest({ ram }), s.guest({ ram })];
    const { statuses } = s.call(0, { op: 'iommu_op', ops: [map(old)] });
    s.expect(statuses?.[0] ?? -1, 0, 'map_foreign_page');
    s.warm(GPU, BUS_FRAME);
    // The bus frame's reference is all that keeps the page now.
    s.call(old, { op: 'decrease_reservation', domid: old, order: 0, extents: { start: PAGE, count: 1 } });
    return { next };
  },
  actors: {
    mediator: {
      kind: 'software',
      does: (w, { next }) => void w.call(0, { op: 'iommu_op', ops: [unmap, map(next)] }),
    },
    gpu: { kind: 'hardware', does: (w) => void w.dma(GPU, BUS_FRAME, 'w') },
  },
  never: ['busFrameIsCleanBeforeReuse', 'noDmaToFreedFrame'],
  variants: {
    'buggy, the harm': {
      what: 'the flush is kept for the end of the call, the reference is not: the job writes to a free page',
      policies: { pvIommu: 'reuse-unflushed' },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, at the step': {
      what: 'the same, judged when the bus frame is mapped again',
      policies: { pvIommu: 'reuse-unflushed' },
      expect: violates('busFrameIsCleanBeforeReuse'),
    },
    fixed: { what: 'what was unmapped is flushed before its bus frame is used again', expect: holds },
  },
});
