// A page is taken out of the I/O tables and its frame given on, beside a device with a cached translation: two actors of some
// fifteen steps on the model's own functions, with an invariant of their own. For measuring.
import { holds, litmus } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { iommuLegacyUnmap } from '#model/iommu/iommu';

const PAGE = 515;

export default litmus({
  title: 'An unmap beside a DMA',
  source: 'for measuring',
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 512, pages: 16 }], devices: [NIC] });
    s.warm(NIC, PAGE);
    return { guest };
  },
  actors: {
    unmapper: {
      kind: 'software',
      does(w, { guest }) {
        const d = w.domain(guest);
        d.locks.p2m.writeLock();
        iommuLegacyUnmap(w.host, d, PAGE, 1);
        d.locks.p2m.writeUnlock();
      },
    },
    nic: {
      kind: 'hardware',
      does(w) {
        w.dma(NIC, PAGE, 'w');
        w.dma(NIC, PAGE + 1, 'w', { fault: 'neighboursStayMapped' });
      },
    },
  },
  never: ['neighboursStayMapped'],
  variants: { only: { what: 'the flush is complete', expect: holds } },
});
