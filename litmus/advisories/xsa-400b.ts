// A NIC with reserved memory goes from dom0 to a guest; both have the page mapped. Between the old context and the new one there was
// none, and its firmware found nothing.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, prepareQuarantine, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { assignThroughNothing } from '../variants/assign.ts';

export default litmus({
  title: 'A device has no tables at all for a moment',
  source: 'XSA-400; Xen 8f41e481b4 and 1fa6e9aa36 (2022-04-05)',
  advisory: { id: 'XSA-400b', kind: 'race', grain: 'model' },
  machine: reservedPage,
  start(s) {
    prepareQuarantine(s);
    return { guest: s.guest({ iommu: true, ram: [NEIGHBOUR] }) };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
    firmware: {
      kind: 'hardware',
      does: (w) => void w.dma(NIC, RESERVED, 'r', { fault: 'reservedPagesAreAlwaysReachable' }),
    },
  },
  never: ['reservedPagesAreAlwaysReachable'],
  variants: {
    buggy: {
      what: 'as before the fix: the old entry is cleared and flushed, then the new one written',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignThroughNothing(w, guest, NIC) } },
      expect: violates('reservedPagesAreAlwaysReachable'),
    },
    fixed: { what: 'one exchange of the whole entry', expect: holds },
  },
});
