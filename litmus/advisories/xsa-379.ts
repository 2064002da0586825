// Two vCPUs of a guest ask at the same time for the same page of Xen's at two gfns. Each takes it away from where it was; the second
// removal finds nothing there, takes that for success, and wipes the M2P entry by which the first new place would be found.
import { holds, litmus, violates } from '#explore/litmus';
import type { Mfn } from '#model/frames/addresses';
import { physmapSpace } from '#model/hypercall/calls';
import { placePageBefore379 } from '../variants/place-page.ts';

const [HERE, THERE, ELSEWHERE] = [512, 513, 514];
const space = physmapSpace.sharedInfo;

export default litmus({
  title: 'Two moves of one page leave it at two places',
  source: 'XSA-379; Xen f147422bf9 (2021-08-25)',
  advisory: {
    id: 'XSA-379',
    kind: 'race',
    grain: 'model',
    note: "The page is shared_info; the advisory's status frame was also removed under the grant lock, which costs one more actor.",
  },
  // Where the page is at first: nowhere is harmless, since adding it looks for aliases by M2P.
  arguments: { mapped: [0, 1] },
  start(s) {
    const guest = s.guest({ iommu: false, ram: [{ gfn: 520, pages: 1 }] });
    if (s.arg('mapped') === 1) {
      s.expect(
        s.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: 0, gpfn: HERE, size: 0 }).rc,
        0,
        'mapping it',
      );
    }
    return { guest, frame: s.domain(guest).r.sharedInfo - 1 };
  },
  actors: {
    one: {
      kind: 'software',
      does: (w, { guest }) =>
        void w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: 0, gpfn: THERE, size: 0 }),
    },
    other: {
      kind: 'software',
      does: (w, { guest }) =>
        void w.call(guest, { op: 'add_to_physmap', domid: guest, space, idx: 0, gpfn: ELSEWHERE, size: 0 }),
    },
  },
  never: ['oneGfnPerOwnedFrame', 'm2pIsInverseOfP2m'],
  variants: {
    buggy: {
      what: 'as before the fix: three holds of the lock, and the old place is asked for without any',
      actors: {
        one: { kind: 'software', does: (w, { guest, frame }) => placePageBefore379(w, guest, frame as Mfn, THERE) },
        other: {
          kind: 'software',
          does: (w, { guest, frame }) => placePageBefore379(w, guest, frame as Mfn, ELSEWHERE),
        },
      },
      expect: violates('m2pIsInverseOfP2m'),
    },
    fixed: { what: 'the p2m lock is held from the question to the new entry', expect: holds },
  },
});
