// A driver maps a page behind a unit that caches what is absent, and tells its NIC. The NIC has asked for that page before; what was
// absent is still remembered under the domain's own id.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { capableUnit } from '#model/host-config';
import { populateFlushingId0 } from '../variants/caching-mode.ts';

const RING = 512;
const PAGE = 514;

export default litmus({
  title: 'A new mapping never becomes visible where absence is cached',
  source: 'Xen c5c84e9766 (2021-08-27)',
  advisory: { id: 'CM-flush', kind: 'order', grain: 'model' },
  machine: { units: [{ ...capableUnit, cachingMode: true }] },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: RING, pages: 1 }], devices: [NIC] });
    s.dma(NIC, PAGE, 'r');
    return { guest };
  },
  actors: {
    driver: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: PAGE, count: 1 };
        w.call(guest, { op: 'populate_physmap', domid: guest, order: 0, memFlags: 0, extents });
        // The page is put into the NIC's ring: from here on the NIC may use it.
        w.call(guest, { op: 'store', frames: { start: RING, count: 1 }, tag: PAGE });
      },
    },
    nic: {
      kind: 'hardware',
      does(w) {
        if (w.dma(NIC, RING, 'r') === 0 && w.tag === PAGE) w.dma(NIC, PAGE, 'w', { fault: 'mapThenDmaNeverFaults' });
      },
    },
  },
  never: ['mapThenDmaNeverFaults'],
  variants: {
    buggy: {
      what: 'as before the fix: the flush names domain id 0',
      actors: {
        driver: {
          kind: 'software',
          does(w, { guest }) {
            populateFlushingId0(w, guest, PAGE);
            w.call(guest, { op: 'store', frames: { start: RING, count: 1 }, tag: PAGE });
          },
        },
      },
      expect: violates('mapThenDmaNeverFaults'),
    },
    fixed: { what: 'the flush names the domain’s own id', expect: holds },
  },
});
