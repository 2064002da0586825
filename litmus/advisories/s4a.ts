// A device is given to a guest that has RAM where the device's reserved page is, on a host whose IOMMU has tables of its own and on
// one where it walks the CPU's.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, reservedPage } from '../starts/reserved-memory.ts';
import { populateReserved, writeAndCompare, writeAndLookAtFirmware } from '../starts/reserved-page.ts';

export default litmus({
  title: 'Shared and separate tables answer the same request differently',
  source: "the design of RMRR mapping of 2014, and Jan Beulich's objection to it",
  advisory: {
    id: 'S4a',
    kind: 'sequential',
    grain: 'model',
    note: 'With --differential: the answers of the historic variant differ between the two kinds of tables, those of today do not.',
  },
  machine: { ...reservedPage, quarantine: 'none' },
  start(s) {
    const guest = s.guest({ ram: [NEIGHBOUR], iommu: true });
    populateReserved(s, 0, guest);
    return { guest };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
    nic: {
      kind: 'hardware',
      does(w, { guest }) {
        writeAndCompare(w, guest);
        writeAndLookAtFirmware(w, guest);
      },
    },
  },
  never: ['cpuAndDeviceAgreeOnGfn', 'reservedDmaReachesTheFirmwareFrame'],
  variants: {
    'buggy, separate tables': {
      what: 'the page is mapped 1:1 for the device alone: CPU and device see different frames',
      policies: { rmrrIdentity: 'iommu-only' },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    'buggy, shared tables': {
      what: 'the same request, the same answer, and nothing is mapped: the device writes to guest RAM',
      policies: { rmrrIdentity: 'iommu-only', iommuTables: 'shared' },
      expect: violates('reservedDmaReachesTheFirmwareFrame'),
    },
    fixed: { what: 'one way through the p2m: busy', expect: holds },
    'fixed, shared tables': { what: 'the same', policies: { iommuTables: 'shared' }, expect: holds },
  },
});
