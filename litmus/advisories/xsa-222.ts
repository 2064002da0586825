// A guest gives up one page of a superpage, and there is no table page left to split it with: the entry stays.
import { holds, litmus, violates } from '#explore/litmus';
import { removeWhateverCame } from '../variants/remove-page.ts';

const PAGE = 700;
/** Tables of a guest with one superpage: root and two below it. */
const TABLES = 3;

export default litmus({
  title: 'An entry cannot be removed, and its page is freed all the same',
  source: 'XSA-222; Xen a0cce6048d, b614f642c3 (2017-06-20)',
  advisory: {
    id: 'XSA-222',
    kind: 'sequential',
    grain: 'model',
    note: 'The fix has a price: a Linux guest whose call answers fewer pages than it asked for panics.',
  },
  arguments: { spare: [0, 1] },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: 512, pages: 512 }] });
    const bytes = (TABLES + s.arg('spare')) * 4096;
    s.expect(s.call(0, { op: 'set_paging_mempool_size', domid: guest, bytes }).rc, 0, 'set_paging_mempool_size');
    return { guest };
  },
  actors: {
    guest: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
  },
  never: ['noP2mLeafToFreeFrame'],
  variants: {
    buggy: {
      what: 'what removing the entry answers is ignored',
      actors: { guest: { kind: 'software', does: (w, { guest }) => removeWhateverCame(w, guest, PAGE) } },
      expect: violates('noP2mLeafToFreeFrame'),
    },
    fixed: { what: 'the page is freed only when its entry is gone', expect: holds },
  },
});
