// The toolstack marks a page populate-on-demand while somebody asks whether PoD is active. Who asks (set_pod_target, get_pod_target, the
// assignment of a device) takes the pod lock only: an entry that is in the table and not yet counted is not seen.
import { holds, litmus, violates } from '#explore/litmus';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { isPod } from '#model/p2m/types';
import { markBeforeCount } from '../variants/pod-mark.ts';

const PAGE = 512;
const POD = 1 << 16;

export default litmus({
  title: 'A PoD entry is in the table before it is counted',
  source: 'Xen cc950c49ae (2024-03-21), introduced by 99af3cd40b (2012-02)',
  advisory: { id: 'PoD-window', kind: 'race', grain: 'model' },
  start: (s) => ({ guest: s.guest({ ram: [{ gfn: 600, pages: 1 }] }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does(w, { guest }) {
        const extents = { start: PAGE, count: 1 };
        w.call(0, { op: 'populate_physmap', domid: guest, order: 0, memFlags: POD, extents });
      },
    },
    asker: {
      kind: 'software',
      does(w, { guest }) {
        const d = w.domain(guest);
        const leaf = new Leaf();
        d.locks.pod.lock();
        peekEntry(w.host, d, PAGE, leaf);
        const inTable = isPod(leaf.type) ? 1 : 0;
        const { podEntryCount } = d.r;
        d.locks.pod.unlock();
        const text = `d${guest} has ${inTable} PoD page in its table and counts ${podEntryCount}, with the pod lock free`;
        w.require(podEntryCount >= inTable, 'podCountCoversTable', text);
      },
    },
  },
  never: ['podCountCoversTable'],
  variants: {
    buggy: {
      what: 'as before the fix: the entry is written first, then counted under the pod lock',
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => markBeforeCount(w, guest, PAGE) } },
      expect: violates('podCountCoversTable'),
    },
    fixed: { what: 'entry and count change under one hold of the pod lock', expect: holds },
  },
});
