// A superpage is put where a table of single pages was. A vCPU in guest mode has the way to that table cached. The table goes back
// to the pool, and is another one a moment later, before the flush that was only noted is carried out.
import { holds, litmus, violates } from '#explore/litmus';
import { populateSuperpageBefore480 } from '../variants/table-replacement.ts';

const RANGE = 512;

export default litmus({
  title: 'A table page goes back to the pool before the deferred flush',
  source: 'XSA-480; Xen 4bc2e5333a (2026-03-17), introduced by 4a59e6bb3a (2022-01)',
  advisory: { id: 'XSA-480', kind: 'race', grain: 'model' },
  start(s) {
    const guest = s.guest({ iommu: false, ram: [{ gfn: RANGE, pages: 2 }] });
    // The first CPU, on which the other vCPU runs, keeps the way to the table.
    s.call(guest, { op: 'touch', frames: { start: RANGE, count: 1 } });
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'touch', frames: { start: RANGE + 1, count: 1 } }),
    },
    populate: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: RANGE, count: 1 };
        w.call(guest, { op: 'populate_physmap', domid: guest, order: 9, memFlags: 0, extents });
      },
    },
  },
  never: ['noWalkThroughFreedTable'],
  variants: {
    buggy: {
      what: 'as between the two commits: the flush is noted, the table freed, the flush carried out at the unlock',
      actors: { populate: { kind: 'software', does: (w, { guest }) => populateSuperpageBefore480(w, guest, RANGE) } },
      expect: violates('noWalkThroughFreedTable'),
    },
    fixed: { what: 'a noted flush is carried out before the table is freed', expect: holds },
  },
});
