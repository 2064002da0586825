// A device is given to a guest that has run for a while (xl pci-attach). When the guest was built nobody thought of the device's
// reserved page.
import { holds, litmus, violates } from '#explore/litmus';
import { NEIGHBOUR, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { buildAndAssign, writeAndCompare } from '../starts/reserved-page.ts';

type Names = { readonly guest: number };

export default litmus({
  title: 'A hot-plugged device meets RAM that nobody reserved',
  source: 'the RMRR discussion of 2014: which regions does a guest without devices keep free?',
  advisory: {
    id: 'S4d',
    kind: 'sequential',
    grain: 'model',
    note: 'Not reserved and strict is right and useless: the device cannot be plugged in.',
  },
  machine: { ...reservedPage, quarantine: 'none' },
  start(s): Names {
    return { guest: s.guest({ ram: [NEIGHBOUR], iommu: true }) };
  },
  actors: {
    toolstack: buildAndAssign(-1),
    nic: { kind: 'hardware', does: (w, { guest }) => writeAndCompare(w, guest) },
  },
  never: ['cpuAndDeviceAgreeOnGfn', 'iommuMirrorsP2m'],
  variants: {
    buggy: {
      what: 'the page is mapped 1:1 for the device alone',
      policies: { rmrrIdentity: 'iommu-only' },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    fixed: {
      what: "all of the host's regions are left free at boot: an identity entry in the p2m",
      actors: { toolstack: buildAndAssign(RESERVED) },
      expect: holds,
    },
    'not reserved': { what: 'nothing was left free: the device is refused', expect: holds },
  },
});
