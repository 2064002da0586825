// The same guest is given the device by a toolstack that says that a conflict may stay (rdm policy relaxed).
import { type Actor, holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { DEV_RDM_RELAXED } from '#model/hypercall/calls';
import { NEIGHBOUR, reservedPage } from '../starts/reserved-memory.ts';
import { populateReserved, writeAndLookAtFirmware } from '../starts/reserved-page.ts';

type Names = { readonly guest: number };

const assign = (flags: number): Actor<Names> => ({
  kind: 'software',
  does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags }),
});

export default litmus({
  title: 'A reserved page is occupied, and the device is given away all the same',
  source: "rdm's policies strict and relaxed (2015)",
  advisory: {
    id: 'S4b',
    kind: 'sequential',
    grain: 'model',
    note: 'Relaxed is no bug of Xen but a permission: the device is given away, its firmware loses data.',
  },
  machine: { ...reservedPage, quarantine: 'none' },
  start(s): Names {
    const guest = s.guest({ ram: [NEIGHBOUR], iommu: true });
    populateReserved(s, 0, guest);
    return { guest };
  },
  actors: {
    toolstack: assign(0),
    nic: { kind: 'hardware', does: (w, { guest }) => writeAndLookAtFirmware(w, guest) },
  },
  never: ['reservedDmaReachesTheFirmwareFrame'],
  variants: {
    relaxed: {
      what: "broken by permission: the guest's RAM stays, and the call succeeds",
      actors: { toolstack: assign(DEV_RDM_RELAXED) },
      expect: violates('reservedDmaReachesTheFirmwareFrame'),
    },
    strict: { what: 'busy', expect: holds },
  },
});
