// A page is taken out of a superpage of a guest whose devices walk the CPU's tables. The architecture wants CPUs to go through an
// invalid entry: one that meets it takes the lock and tries again, a device cannot.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';

export default litmus({
  title: 'Break-before-make on tables that are shared with a device',
  source: "the report 'superpage shattering and in-flight DMA' (2017); Xen's p2m for Arm as it still is (c447b7308b)",
  advisory: {
    id: 'S1b',
    kind: 'race',
    grain: 'model',
    note: 'Not fixed on Arm: devices that tolerate it, tables of their own or 4K pages are what helps. Preemptions: as S1a.',
  },
  start(s) {
    return { guest: s.guest({ ram: [{ gfn: 512, pages: 512 }], devices: [NIC] }) };
  },
  actors: {
    guest: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: 512, count: 1 } });
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, 513, 'w', { fault: 'neighboursStayMapped' }) },
  },
  never: ['neighboursStayMapped'],
  variants: {
    buggy: {
      what: 'entry invalid, TLB flush, entry a table',
      policies: { shatter: 'break-before-make', iommuTables: 'shared' },
      expect: violates('neighboursStayMapped'),
    },
    fixed: { what: 'the device has tables of its own, which change with one store', expect: holds },
    'shared, one store': {
      what: 'what x86 does where tables are shared',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
    'shared, 4K only': {
      what: 'the way round it: there is nothing to split',
      policies: { shatter: 'break-before-make', iommuTables: 'shared' },
      machine: { ept: { superpage2m: false, superpage1g: false }, tablePages: 192 },
      expect: holds,
    },
  },
});
