// A NIC with reserved memory goes from dom0 to a guest and into quarantine. Its firmware does not stop for that. Each time the tables
// that it is given must have the reserved page before they are used, and those that it leaves must keep it until then.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { NEIGHBOUR, prepareQuarantine, RESERVED, reservedPage } from '../starts/reserved-memory.ts';
import { assignMappingLast, takeBackUnmappingFirst } from '../variants/assign.ts';

export default litmus({
  title: 'A device reaches tables that do not have its reserved pages yet',
  source: 'XSA-400; Xen 78a40f8b5d and 3221f270cf (2022-04-05)',
  advisory: { id: 'XSA-400a', kind: 'race', grain: 'model' },
  machine: reservedPage,
  arguments: { taken: [0, 1] },
  start(s) {
    prepareQuarantine(s);
    const guest = s.guest({ iommu: true, ram: [NEIGHBOUR] });
    if (s.arg('taken') === 1) s.assign(guest, NIC);
    return { guest };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does(w, { guest }) {
        const op = w.arg('taken') === 1 ? 'deassign_device' : 'assign_device';
        w.call(0, { op, domid: guest, sbdf: NIC, flags: 0 });
      },
    },
    firmware: {
      kind: 'hardware',
      does: (w) => void w.dma(NIC, RESERVED, 'r', { fault: 'liveContextMapsItsReservedPages' }),
    },
  },
  never: ['liveContextMapsItsReservedPages'],
  variants: {
    buggy: {
      what: 'as before the fix: mapped after the context has changed, unmapped before it has',
      actors: {
        toolstack: {
          kind: 'software',
          does: (w, { guest }) => (w.arg('taken') === 1 ? takeBackUnmappingFirst : assignMappingLast)(w, guest, NIC),
        },
      },
      expect: violates('liveContextMapsItsReservedPages'),
    },
    fixed: { what: 'map, then change the context, then unmap', expect: holds },
  },
});
