// A NIC goes from dom0 to a guest. Its context gets the guest's domain id while it still leads to dom0's tables: what the NIC
// translates then is cached as the guest's.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { assignInHalves } from '../variants/context.ts';

const PAGE = 5;

export default litmus({
  title: 'A context changes its domain id before its tables',
  source: 'XSA-347; Xen 0514a3a25f (2020-10-20)',
  advisory: {
    id: 'XSA-347b',
    kind: 'race',
    grain: 'model',
    note: 'The order of the fields was the compiler’s; this one does the harm.',
  },
  machine: { dom0Pages: 16 },
  start: (s) => ({ guest: s.guest({ iommu: true, ram: [{ gfn: PAGE, pages: 1 }] }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, PAGE, 'w') },
  },
  never: ['dteIsSeenWholeOrBlocked', 'noDmaToForeignFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: domain id, then tables, in an entry that is in use',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignInHalves(w, guest, NIC) } },
      expect: violates('noDmaToForeignFrame'),
    },
    fixed: { what: 'one exchange of the whole entry', expect: holds },
  },
});
