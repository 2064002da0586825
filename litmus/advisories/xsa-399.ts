// A domain dies and gives its id on a unit back while another domain gets a device behind that unit, and with it the same id. The slot
// is free before its owner is reset: the reset then wipes the new owner, and no flush of that domain finds its id any more.
import { holds, litmus, violates } from '#explore/litmus';
import { GPU, NIC } from '#explore/machine';
import { capableUnit } from '#model/host-config';
import { releaseDevices } from '#model/iommu/assign';
import { leaveFreeingTheBitFirst } from '../variants/domain-ids.ts';

export default litmus({
  title: 'A domain id is free before its owner is reset',
  source: 'XSA-399; Xen d9eca7bb6c (2022-04-05)',
  advisory: { id: 'XSA-399', kind: 'race', grain: 'model' },
  machine: { units: [{ ...capableUnit, domainIds: 16 }] },
  start(s) {
    const dying = s.guest({ devices: [GPU] });
    return { dying, guest: s.guest({ iommu: true, ram: [{ gfn: 512, pages: 2 }] }) };
  },
  actors: {
    destroyer: {
      kind: 'software',
      does: (w, { dying }) => void releaseDevices(w.host, w.domain(dying)),
    },
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
  },
  never: ['liveDomainIdMapsBackToItsUser', 'allRequesterIdsShareOneOwner'],
  variants: {
    buggy: {
      what: 'as before the fix: the bit goes, then the owner',
      actors: {
        destroyer: { kind: 'software', does: (w, { dying }) => leaveFreeingTheBitFirst(w, dying, GPU) },
      },
      expect: violates('allRequesterIdsShareOneOwner'),
    },
    fixed: { what: 'owner and “in use” are one word, changed under the pcidevs lock', expect: holds },
  },
});
