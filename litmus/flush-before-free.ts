// A page is ballooned out while a device of the guest still has its translation cached. The frame may only be handed on when the
// IOTLB has forgotten it and transactions that used it have ended.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';

const PAGE = 515;

export default litmus({
  title: 'A frame is freed only after the IOTLB has forgotten it',
  source: 'XSA-346, and the flush order of iommu_iotlb_flush before put_page',
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 512, pages: 16 }], devices: [NIC] });
    s.warm(NIC, PAGE);
    return { guest };
  },
  actors: {
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
    nic: {
      kind: 'hardware',
      does(w) {
        // Late requests of a driver that did not stop its card: a fault would be right.
        w.dma(NIC, PAGE, 'w');
      },
    },
  },
  never: ['noDmaToFreedFrame', 'noIotlbEntryToFreeFrame'],
  variants: {
    lost: {
      what: 'nobody flushes the IOTLB',
      policies: { iotlbFlush: 'lost' },
      expect: violates('noDmaToFreedFrame'),
    },
    deferred: {
      what: 'the flush is put off, the free is not',
      policies: { iotlbFlush: 'deferred' },
      expect: violates('noDmaToFreedFrame'),
    },
    'lost, shared tables': {
      what: 'the same where devices walk the EPT',
      policies: { iotlbFlush: 'lost', iommuTables: 'shared' },
      expect: violates('noDmaToFreedFrame'),
    },
    flushed: {
      what: 'the flush is complete, in-flight requests included, before the free: what Xen does',
      expect: holds,
    },
    'flushed, shared tables': {
      what: 'the same where devices walk the EPT',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
  },
});
