// A guest puts RAM where its memory map says reserved, while the toolstack gives it the device that needs the page there.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, reservedPage } from '../starts/reserved-memory.ts';
import { populateReserved } from '../starts/reserved-page.ts';

export default litmus({
  title: 'RAM is ballooned in over a reserved range',
  source: 'an open question of the RMRR discussion of 2014; answered by the checks of XSA-378',
  advisory: {
    id: 'S4e',
    kind: 'order',
    grain: 'model',
    note: 'Who comes first decides between busy and a crashed guest; both are right.',
  },
  machine: { ...reservedPage, quarantine: 'none' },
  start(s) {
    return { guest: s.guest({ ram: [NEIGHBOUR], iommu: true }) };
  },
  actors: {
    guest: { kind: 'software', does: (w, { guest }) => populateReserved(w, guest, guest) },
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
  },
  never: ['identityEntryChangesOnlyThroughItsOwner'],
  variants: {
    buggy: {
      what: 'RAM replaces whatever is there',
      policies: { specialEntries: 'replaceable' },
      expect: violates('identityEntryChangesOnlyThroughItsOwner'),
    },
    fixed: { what: 'RAM over a special entry crashes the guest', expect: holds },
  },
});
