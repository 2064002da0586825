// A domain has died; somebody still holds one of its pages. When that page goes, it is unmapped from the domain's I/O tables once more,
// by a root pointer that names tables long freed.
import { holds, litmus, violates } from '#explore/litmus';
import { iommuLegacyUnmap } from '#model/iommu/iommu';
import { step, stepKind } from '#model/shared-memory/step';
import { type TableIndex, tableUse } from '#model/shared-memory/table-pages';
import { freeTablesKeepingTheRoot } from '../variants/destroy.ts';

const PAGE = 512;

export default litmus({
  title: 'A root pointer outlives the tables below it',
  source: 'Xen 9bd9695a8b (2021-03-02), introduced by 3eef6d07d7',
  advisory: {
    id: 'IOMMU-root',
    kind: 'order',
    grain: 'model',
    note: 'Xen unmaps a PV page with its last reference; the model calls that unmap by itself, since it does so when the page is given up.',
  },
  start: (s) => ({ guest: s.guest({ iommu: true, ram: [{ gfn: PAGE, pages: 2 }] }) }),
  actors: {
    destroyer: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'destroydomain', domid: guest }),
    },
    holder: {
      kind: 'software',
      does(w, { guest }) {
        step(stepKind.read, guest);
        const d = w.host.domain(guest);
        if (d === null) return;
        iommuLegacyUnmap(w.host, d, PAGE, 1);
        step(stepKind.read, guest);
        const root = d.r.iommuRoot as TableIndex;
        const text = `an unmap of d${guest} walked from table ${root}, which is free`;
        w.require(root === 0 || w.host.tables.useOf(root) !== tableUse.free, 'noWalkThroughFreedTable', text);
      },
    },
  },
  never: ['noWalkThroughFreedTable'],
  variants: {
    buggy: {
      what: 'as between the two commits: the tables go, the pointer stays',
      actors: { destroyer: { kind: 'software', does: (w, { guest }) => freeTablesKeepingTheRoot(w, guest) } },
      expect: violates('noWalkThroughFreedTable'),
    },
    fixed: { what: 'the pointer goes first, under the mapping lock', expect: holds },
  },
});
