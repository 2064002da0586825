// A NIC with reserved memory leaves its guest for quarantine, which was no context at all. Its firmware finds nothing from then on.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { quarantineWithNothing } from '../variants/assign.ts';

export default litmus({
  title: 'Quarantine does not have the reserved pages of a device',
  source: 'XSA-400; Xen 14dd241aad (2022-04-05)',
  advisory: { id: 'XSA-400c', kind: 'order', grain: 'model' },
  machine: reservedPage,
  start: (s) => ({ guest: s.guest({ ram: [NEIGHBOUR], devices: [NIC] }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'deassign_device', domid: guest, sbdf: NIC }),
    },
    firmware: {
      kind: 'hardware',
      does: (w) => void w.dma(NIC, RESERVED, 'r', { fault: 'reservedPagesAreAlwaysReachable' }),
    },
  },
  never: ['quarantinedDeviceKeepsItsReservedPages', 'reservedPagesAreAlwaysReachable'],
  variants: {
    buggy: {
      what: 'as before the fix: a device in quarantine has no context',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => quarantineWithNothing(w, guest, NIC) } },
      expect: violates('quarantinedDeviceKeepsItsReservedPages'),
    },
    fixed: { what: 'private tables with the reserved pages, made when the device was assigned', expect: holds },
  },
});
