// The first page of a range is populated: a new table is linked into an empty directory entry. Written field by field, the entry is
// present before it says where to go on, and a walker of another vCPU goes on wherever the old field says.
import { holds, litmus, violates } from '#explore/litmus';
import { populateRightsFirst, walkDirectory } from '../variants/directory-entry.ts';

const PAGE = 1024;

export default litmus({
  title: 'A live directory entry is written field by field',
  source: 'XSA-328; Xen bc3d9f95d6 and 1104288186 (2020-07-07)',
  advisory: {
    id: 'XSA-328',
    kind: 'race',
    grain: 'model',
    note: 'The source stored the frame before the rights; the harm needs a compiler that splits or reorders the stores.',
  },
  start: (s) => ({ guest: s.guest({ iommu: false, ram: [{ gfn: 512, pages: 1 }] }) }),
  actors: {
    populate: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: PAGE, count: 1 };
        w.call(guest, { op: 'populate_physmap', domid: guest, order: 0, memFlags: 0, extents });
      },
    },
    walker: { kind: 'hardware', does: (w, { guest }) => walkDirectory(w, guest, PAGE) },
  },
  never: ['walkerSeesOldOrNewEntryOnly'],
  variants: {
    buggy: {
      what: 'as before the fix, with the stores as a compiler may emit them: rights first, then the frame',
      actors: { populate: { kind: 'software', does: (w, { guest }) => populateRightsFirst(w, guest, PAGE) } },
      expect: violates('walkerSeesOldOrNewEntryOnly'),
    },
    fixed: { what: 'the entry is built aside and stored whole', expect: holds },
  },
});
