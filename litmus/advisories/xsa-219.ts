// Xen emulates a guest's write to a page while another vCPU of the guest gives that page up. Between the translation and the write
// something must keep the frame with its owner.
import { holds, litmus, violates } from '#explore/litmus';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { getPageFromGfn, P2M_ALLOC } from '#model/p2m/get-entry';
import { Leaf } from '#model/p2m/peek-entry';
import { translateAndPut } from '../variants/translate.ts';

const PAGE = 515;
const TAG = 7;

export default litmus({
  title: 'A translation outlives its reference',
  source: 'XSA-219; Xen 26217aff67 (2017-06-20)',
  advisory: {
    id: 'XSA-219',
    kind: 'race',
    grain: 'model',
    note: 'In Xen the write is one of shadow paging; here the same translation serves an emulated store.',
  },
  start(s) {
    return { guest: s.guest({ ram: [{ gfn: 512, pages: 8 }] }) };
  },
  actors: {
    emulator: {
      kind: 'software',
      does(w, { guest }) {
        const m = getPageFromGfn(w.host, w.domain(guest), PAGE, P2M_ALLOC, new Leaf());
        if (m < 0) return;
        w.xenWrite(guest, m as Mfn, TAG);
        putPage(w.host, m as Mfn);
      },
    },
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
  },
  never: ['xenAccessHoldsAReference'],
  variants: {
    buggy: {
      what: 'the reference is put before the frame is used',
      actors: {
        emulator: {
          kind: 'software',
          does(w, { guest }) {
            const m = translateAndPut(w, guest, PAGE);
            if (m >= 0) w.xenWrite(guest, m, TAG);
          },
        },
      },
      expect: violates('xenAccessHoldsAReference'),
    },
    fixed: { what: 'the reference is put after the write', expect: holds },
  },
});
