// A device that sends requests under a second address is given to a guest. The context of that address cannot be written, and nobody
// minds: under it the guest reaches the memory of whoever had the device before.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { phantomNic } from '../starts/reserved-memory.ts';
import { assignForgettingPhantoms } from '../variants/assign.ts';

export default litmus({
  title: 'A phantom function stays behind',
  source: 'XSA-449; Xen cb4ecb3cc1 (2024-01-30)',
  advisory: { id: 'XSA-449', kind: 'sequential', grain: 'model' },
  machine: phantomNic,
  faults: ['ctxWrite'],
  start: (s) => ({ guest: s.guest({ iommu: true }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
  },
  never: ['allRequesterIdsShareOneOwner'],
  variants: {
    buggy: {
      what: 'as before the fix: the error of a phantom function is forgotten',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignForgettingPhantoms(w, guest, NIC) } },
      expect: violates('allRequesterIdsShareOneOwner'),
    },
    fixed: { what: 'the device comes back; if even that fails it is broken and the guest is crashed', expect: holds },
  },
});
