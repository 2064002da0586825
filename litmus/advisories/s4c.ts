// Two devices share a reserved page, and two guests are given one of them each.
import { type Actor, holds, litmus, violates } from '#explore/litmus';
import { GPU, NIC } from '#explore/machine';
import { DEV_RDM_RELAXED } from '#model/hypercall/calls';
import { NEIGHBOUR, RESERVED } from '../starts/reserved-memory.ts';
import { assignWithGroup } from '../variants/shared-region.ts';

type Names = { readonly first: number; readonly second: number };

/** The GPU to the first, the NIC to the second. */
const assigning = (flags: number): Actor<Names> => ({
  kind: 'software',
  does: [
    (w, { first }) => void w.call(0, { op: 'assign_device', domid: first, sbdf: GPU, flags }),
    (w, { second }) => void w.call(0, { op: 'assign_device', domid: second, sbdf: NIC, flags }),
  ],
});

export default litmus({
  title: 'Two guests share a reserved region through their devices',
  source: 'the RMRR discussion of 2014 and 2015: refuse, or move together?',
  advisory: { id: 'S4c', kind: 'sequential', grain: 'model' },
  machine: { rmrrs: [{ startPfn: RESERVED, endPfn: RESERVED, devices: [GPU, NIC] }], quarantine: 'none' },
  start(s): Names {
    const spec = { ram: [NEIGHBOUR], iommu: true };
    return { first: s.guest(spec), second: s.guest(spec) };
  },
  actors: { toolstack: assigning(0) },
  never: ['noFrameWritableByTwoGuests'],
  variants: {
    buggy: {
      what: 'nobody asks who else names the region (or the toolstack says that it may be risky)',
      actors: { toolstack: assigning(DEV_RDM_RELAXED) },
      expect: violates('noFrameWritableByTwoGuests'),
    },
    fixed: { what: 'a device whose region has others in its scope is refused', expect: holds },
    together: {
      what: 'the other way: refused only while one of the others is with another guest',
      actors: {
        toolstack: {
          kind: 'software',
          does: [(w, { first }) => assignWithGroup(w, first, GPU), (w, { second }) => assignWithGroup(w, second, NIC)],
        },
      },
      expect: holds,
    },
  },
});
