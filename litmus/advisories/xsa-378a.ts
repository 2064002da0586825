// A guest has a device with reserved memory, mapped 1:1 for it. The guest puts a page of its own there, gives the gfn up, or has memory
// put there: the device's firmware then works on a page of the guest, or finds nothing.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import type { World } from '#explore/world';
import { physmapSpace } from '#model/hypercall/calls';
import { NEIGHBOUR, RESERVED, reservedPage } from '../starts/reserved-memory.ts';

/** What a careless guest may ask for. */
function ask(w: World, guest: number, what: number): void {
  const extents = { start: RESERVED, count: 1 };
  if (what === 0) {
    const space = physmapSpace.gmfn;
    w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: NEIGHBOUR.gfn, gpfn: RESERVED, size: 0 });
  } else if (what === 1) w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents });
  else if (what === 2) w.call(guest, { op: 'remove_from_physmap', domid: guest, gpfn: RESERVED });
  else w.call(guest, { op: 'populate_physmap', domid: guest, order: 0, memFlags: 0, extents });
}

export default litmus({
  title: 'A guest’s own call replaces the identity entry of a reserved page',
  source: 'XSA-378; Xen 753cb68e65 and 0bf755e2c8 (2021-08-25)',
  advisory: { id: 'XSA-378a', kind: 'sequential', grain: 'model' },
  machine: reservedPage,
  arguments: { call: [0, 1, 2, 3] },
  start: (s) => ({ guest: s.guest({ ram: [NEIGHBOUR], devices: [NIC] }) }),
  actors: {
    vcpu: { kind: 'software', does: (w, { guest }) => ask(w, guest, w.arg('call')) },
    firmware: {
      kind: 'hardware',
      does: (w) => void w.dma(NIC, RESERVED, 'r', { fault: 'reservedPagesAreAlwaysReachable' }),
    },
  },
  never: ['identityEntryChangesOnlyThroughItsOwner', 'reservedPagesAreAlwaysReachable'],
  variants: {
    buggy: {
      what: 'as before the fix: an identity entry is displaced as if it were RAM',
      policies: { specialEntries: 'replaceable' },
      expect: violates('identityEntryChangesOnlyThroughItsOwner'),
    },
    'buggy, firmware': {
      what: 'the same, by what the firmware of the device finds',
      policies: { specialEntries: 'replaceable' },
      expect: violates('reservedPagesAreAlwaysReachable'),
    },
    fixed: { what: 'the call is refused, or the guest crashed where it is too late for that', expect: holds },
  },
});
