// A guest asks for a page of Xen's (here of its grant table) at the very gfn where it has it already.
import { holds, litmus, violates } from '#explore/litmus';
import type { World } from '#explore/world';
import { physmapSpace } from '#model/hypercall/calls';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { granter, TABLE } from '../starts/grants.ts';
import { moveTableFrame } from '../variants/move-page.ts';

/** The call answers 0, and p2m and M2P are as before. */
function moveOntoItself(w: World, guest: number, move: () => number): void {
  const d = w.domain(guest);
  const leaf = new Leaf();
  const before = peekEntry(w.host, d, TABLE, leaf);
  const rc = move();
  const after = peekEntry(w.host, d, TABLE, leaf);
  const back = w.host.frames.gfnOf(before);
  const text = `the call answered ${rc}; gfn ${TABLE.toString(16)} led to mfn ${before.toString(16)}, now to ${after.toString(16)}, and M2P says ${back.toString(16)}`;
  w.require(rc === 0 && after === before && back === TABLE, 'moveToSelfIsIdempotent', text);
}

export default litmus({
  title: 'Moving a page onto itself unhooks it',
  source: 'a regression of the XSA-379 family; Xen 3e910b648b (2021-09-15)',
  advisory: { id: 'SELF-move', kind: 'sequential', grain: 'model' },
  start(s) {
    return { guest: granter(s) };
  },
  actors: {
    guest: {
      kind: 'software',
      does(w, { guest }) {
        const space = physmapSpace.grantTable;
        moveOntoItself(
          w,
          guest,
          () => w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: 0, gpfn: TABLE, size: 0 }).rc,
        );
      },
    },
  },
  never: ['moveToSelfIsIdempotent'],
  variants: {
    buggy: {
      what: 'the old place is read first; then the new one is cleared, and the old one, which is the same, again',
      actors: {
        guest: {
          kind: 'software',
          does: (w, { guest }) => moveOntoItself(w, guest, () => moveTableFrame(w, guest, TABLE)),
        },
      },
      expect: violates('moveToSelfIsIdempotent'),
    },
    fixed: { what: 'a page that is in its place already is not removed', expect: holds },
  },
});
