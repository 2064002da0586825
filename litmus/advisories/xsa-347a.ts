// A guest maps a page that it was granted for reading over a page of its own that its NIC may write. Stored field by field, the entry
// has the new frame with the old rights for a moment, and the NIC writes where nobody let it.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import type { Mfn } from '#model/frames/addresses';
import { gntmap } from '#model/grant/status';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { step, stepKind } from '#model/shared-memory/step';
import { grant, granter, REF } from '../starts/grants.ts';
import { replaceFrameFirst } from '../variants/io-entry.ts';

const PAGE = 512;
const TAG = 7;

export default litmus({
  title: 'A live I/O entry is updated field by field',
  source: 'XSA-347; Xen 3b055121c5 and 73f62c7380 (2020-10-20)',
  advisory: { id: 'XSA-347a', kind: 'race', grain: 'model' },
  start(s) {
    const owner = granter(s);
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 1 }], devices: [NIC] });
    grant(s, owner, guest, PAGE);
    return { guest, owner, frame: peekEntry(s.host, s.domain(owner), PAGE, new Leaf()) };
  },
  actors: {
    mapper: {
      kind: 'software',
      does(w, { guest, owner }) {
        const ops = [{ hostAddr: PAGE * 4096, flags: gntmap.host | gntmap.readonly, ref: REF, domid: owner }];
        w.call(guest, { op: 'gnttab_map_grant_ref', ops });
      },
    },
    nic: {
      kind: 'hardware',
      does(w, { frame }) {
        w.dma(NIC, PAGE, 'w', { tag: TAG });
        step(stepKind.read, frame);
        const text = `the NIC wrote to mfn ${frame.toString(16)}, which was mapped for reading only`;
        w.require(w.host.frames.tag[frame] !== TAG, 'walkerSeesOldOrNewEntryOnly', text);
      },
    },
  },
  never: ['walkerSeesOldOrNewEntryOnly'],
  variants: {
    buggy: {
      what: 'as before the fix: the frame is stored, then the rights',
      actors: {
        mapper: {
          kind: 'software',
          does(w, { guest, owner, frame }) {
            replaceFrameFirst(w, guest, PAGE, frame as Mfn);
            const ops = [{ hostAddr: PAGE * 4096, flags: gntmap.host | gntmap.readonly, ref: REF, domid: owner }];
            w.call(guest, { op: 'gnttab_map_grant_ref', ops });
          },
        },
      },
      expect: violates('walkerSeesOldOrNewEntryOnly'),
    },
    fixed: { what: 'one store of the whole entry', expect: holds },
  },
});
