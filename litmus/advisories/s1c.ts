// The superpage is split as it should be, but nobody flushes: the page that was taken out is reached through the old entry.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';

export default litmus({
  title: 'A page is taken out of a superpage that the IOTLB still holds',
  source: "the end of the answer in 'superpage shattering and in-flight DMA' (2017)",
  advisory: {
    id: 'S1c',
    kind: 'order',
    grain: 'model',
    note: 'S1a loses availability, this one isolation: two invariants of one operation.',
  },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 512, pages: 512 }], devices: [NIC] });
    s.warm(NIC, 700);
    return { guest };
  },
  actors: {
    guest: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: 512, count: 1 } });
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, 512, 'w') },
  },
  never: ['noDmaToFreedFrame', 'noIotlbEntryToFreeFrame'],
  variants: {
    'buggy, the harm': {
      what: 'no flush: DMA lands in the free page',
      policies: { iotlbFlush: 'lost' },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, at rest': {
      what: 'no flush: the IOTLB names the free page',
      policies: { iotlbFlush: 'lost' },
      expect: violates('noIotlbEntryToFreeFrame'),
    },
    fixed: { what: 'the 2M range is flushed before the page is freed', expect: holds },
  },
});
