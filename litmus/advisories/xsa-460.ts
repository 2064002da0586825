// A device with two reserved pages is given to a guest, and the second page cannot be mapped. The caller takes back what was done, by
// the record of it, which was to be made when all was mapped.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { reservedPages } from '../starts/reserved-memory.ts';
import { assignRecordingLast } from '../variants/identity-mapping.ts';

export default litmus({
  title: 'Reserved pages that were mapped before an error are on no record',
  source: 'XSA-460; Xen beadd68b54 (2024-08-13)',
  advisory: { id: 'XSA-460', kind: 'sequential', grain: 'model' },
  machine: reservedPages,
  faults: 'each',
  start: (s) => ({ guest: s.guest({ iommu: true }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
  },
  never: ['reservedPagesMappedExactlyWhileOwned', 'reservedRegionCountsMatchDevices'],
  variants: {
    buggy: {
      what: 'as before the fix: mapped first, recorded then',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignRecordingLast(w, guest, NIC) } },
      expect: violates('reservedPagesMappedExactlyWhileOwned'),
    },
    fixed: { what: 'recorded first; an unmap minds no page that is missing', expect: holds },
  },
});
