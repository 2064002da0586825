// dom0 gives up one page of a superpage while its NIC writes to another page of it.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';

export default litmus({
  title: 'A superpage of the IOMMU is unmapped, and its other pages are mapped again one by one',
  source: "the report 'superpage shattering and in-flight DMA' (Arm IPMMU, 2017)",
  advisory: {
    id: 'S1a',
    kind: 'race',
    grain: 'model',
    note: '1 preemption on paper, none here: a flush waits for requests under way, and a device that was left in one may go on then.',
  },
  machine: { dom0Pages: 1024 },
  start: () => ({}),
  actors: {
    balloon: {
      kind: 'software',
      does: (w) =>
        void w.call(0, { op: 'decrease_reservation', domid: 0, order: 0, extents: { start: 512, count: 1 } }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, 513, 'w', { fault: 'neighboursStayMapped' }) },
  },
  never: ['neighboursStayMapped'],
  variants: {
    buggy: {
      what: 'entry cleared, 2M flushed, then 511 pages mapped',
      policies: { shatter: 'naive' },
      expect: violates('neighboursStayMapped'),
    },
    fixed: { what: 'the table is filled aside and linked with one store', expect: holds },
  },
});
