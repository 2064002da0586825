// A guest's NIC writes into a superpage while another page of it is taken away. On x86 the tables are replaced with one
// store; done in two, a device finds nothing for a moment, and a device's fault is not replayed.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';

export default litmus({
  title: 'A superpage is split while a device writes to its other pages',
  source: "Xen 2a758376f9 (AMD), the report 'superpage shattering and in-flight DMA' (seed 001), Arm's p2m",
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 512, pages: 512 }], devices: [NIC] });
    return { guest };
  },
  actors: {
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: 512, count: 1 } });
      },
    },
    nic: {
      kind: 'hardware',
      does(w) {
        w.dma(NIC, 700, 'w', { fault: 'neighboursStayMapped' });
      },
    },
  },
  never: ['neighboursStayMapped'],
  variants: {
    naive: {
      what: 'unmap 2M, flush, map the other 511 pages one by one',
      policies: { shatter: 'naive' },
      expect: violates('neighboursStayMapped'),
    },
    'break-before-make': {
      what: "entry cleared and flushed, then the finished table linked, as Arm's p2m does",
      policies: { shatter: 'break-before-make' },
      expect: violates('neighboursStayMapped'),
    },
    'break-before-make, shared tables': {
      what: 'the same with tables shared between CPU and device',
      policies: { shatter: 'break-before-make', iommuTables: 'shared' },
      expect: violates('neighboursStayMapped'),
    },
    atomic: {
      what: 'the table is filled aside and linked with one store: what Xen does on x86',
      expect: holds,
    },
    'atomic, shared tables': {
      what: 'the same with tables shared between CPU and device',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
  },
});
