// Xen writes to a page of a guest (an emulated store) while another vCPU of that guest balloons it out. Between the translation and
// the use, a lock or a reference must keep the frame with its owner.
import { holds, litmus, violates } from '#explore/litmus';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { getGfn, getPageFromGfn, P2M_ALLOC, putGfn } from '#model/p2m/get-entry';
import { Leaf } from '#model/p2m/peek-entry';
import { isRam } from '#model/p2m/types';
import { translateAndPut, translateUnlocked } from './variants/translate.ts';

const PAGE = 515;
const TAG = 7;

export default litmus({
  title: 'A translation outlives what keeps it true',
  source: "XSA-219; the rule of get_gfn/put_gfn ('you want to keep the p2m lock for the full duration', seed 002)",
  start(s) {
    return { guest: s.guest({ ram: [{ gfn: 512, pages: 16 }] }) };
  },
  actors: {
    emulator: {
      kind: 'software',
      does(w, { guest }) {
        const d = w.domain(guest);
        const m = getPageFromGfn(w.host, d, PAGE, P2M_ALLOC, new Leaf());
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
    unlocked: {
      what: 'the entry is read and the number used, with neither lock nor reference',
      actors: {
        emulator: {
          kind: 'software',
          does(w, { guest }) {
            const m = translateUnlocked(w, guest, PAGE);
            if (w.host.frames.valid(m)) w.xenWrite(guest, m, TAG);
          },
        },
      },
      expect: violates('xenAccessHoldsAReference'),
    },
    'reference put early': {
      what: 'as before XSA-219: the reference is put before the frame is used',
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
    'reference held': { what: 'get_page_from_gfn … put_page around the use', expect: holds },
    'lock held': {
      what: 'get_gfn … put_gfn around the use',
      actors: {
        emulator: {
          kind: 'software',
          does(w, { guest }) {
            const d = w.domain(guest);
            const leaf = new Leaf();
            const m = getGfn(w.host, d, PAGE, P2M_ALLOC, leaf);
            if (isRam(leaf.type)) w.xenWrite(guest, m, TAG);
            putGfn(w.host, d);
          },
        },
      },
      expect: holds,
    },
  },
});
