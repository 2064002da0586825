// A guest maps a status frame of its grant table with one vCPU while another goes back to version 1, which frees those frames.
import { holds, litmus, violates } from '#explore/litmus';
import { physmapSpace } from '#model/hypercall/calls';
import { granter, STATUS_FRAMES } from '../starts/grants.ts';
import { mapStatusFrameReferenced, mapStatusFrameUnheld } from '../variants/grant-table.ts';

const PLACE = 620;

export default litmus({
  title: 'A status frame is freed while it is being mapped',
  source: 'XSA-384 and XSA-486; Xen eb6bbf7b30 (2021-09-08), 02708d3b51 (2026-04-28)',
  advisory: {
    id: 'XSA-384/486',
    kind: 'race',
    grain: 'model',
    note: 'The fix of 2021 is clean with one preemption and dirty with two: a reference protects the frame, not the mapping.',
  },
  start(s) {
    return { guest: granter(s, 2) };
  },
  actors: {
    mapper: {
      kind: 'software',
      does(w, { guest }) {
        const space = physmapSpace.grantTable;
        w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: STATUS_FRAMES, gpfn: PLACE, size: 0 });
      },
    },
    version: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'gnttab_set_version', version: 1 });
      },
    },
  },
  never: ['noP2mLeafToFreeFrame'],
  variants: {
    'before XSA-384': {
      what: "the frame's number is read under the table's lock and mapped after it",
      actors: {
        mapper: { kind: 'software', does: (w, { guest }) => void mapStatusFrameUnheld(w, guest, PLACE) },
      },
      expect: violates('noP2mLeafToFreeFrame'),
    },
    'XSA-384': {
      what: 'the fix of 2021: a reference is held while the frame is mapped, the lock is not',
      actors: {
        mapper: { kind: 'software', does: (w, { guest }) => void mapStatusFrameReferenced(w, guest, PLACE) },
      },
      expect: violates('noP2mLeafToFreeFrame'),
    },
    fixed: { what: 'the lock of the grant table is kept until the frame is mapped (XSA-486)', expect: holds },
  },
});
