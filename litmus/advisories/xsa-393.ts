// A guest gives up a page whose entry no CPU accepts at the moment: Xen is to look at it first. The removal takes it for one that is
// not there. The frame goes to the heap; the next touch repairs the entry and writes to it.
import { holds, litmus, violates } from '#explore/litmus';
import { SHADOW_ENABLE_LOG_DIRTY, shadowOp } from '#model/hypercall/calls';
import { removeRamBefore393 } from '../variants/remove-entry.ts';

const PAGE = 512;

export default litmus({
  title: 'A removed entry is still known to Xen',
  source: 'XSA-393; Xen a428b913a0 (2022-01-25)',
  advisory: {
    id: 'XSA-393',
    kind: 'order',
    grain: 'model',
    note: 'On Arm: an entry invalidated to track set/way flushes. Here: one whose type a bulk change has left to be computed anew.',
  },
  start(s) {
    const guest = s.guest({ iommu: false, ram: [{ gfn: PAGE, pages: 2 }] });
    const mode = SHADOW_ENABLE_LOG_DIRTY;
    for (const sop of [shadowOp.enable, shadowOp.off]) {
      const { rc } = s.call(0, { op: 'shadow_op', domid: guest, sop, mode, pages: 0, copy: false, mb: 0 });
      s.expect(rc, 0, 'shadow_op');
    }
    return { guest };
  },
  actors: {
    balloon: {
      kind: 'software',
      does(w, { guest }) {
        w.call(guest, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } });
      },
    },
    vcpu: {
      kind: 'software',
      does: (w, { guest }) => void w.call(guest, { op: 'store', frames: { start: PAGE, count: 1 }, tag: 7 }),
    },
  },
  never: ['removedEntryIsZero', 'noP2mLeafToFreeFrame', 'noCpuAccessToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: an entry is cleared only where hardware finds one',
      actors: { balloon: { kind: 'software', does: (w, { guest }) => removeRamBefore393(w, guest, PAGE) } },
      expect: violates('noP2mLeafToFreeFrame'),
    },
    'buggy, written to': {
      what: 'the same: the page is written after it was given up',
      actors: { balloon: { kind: 'software', does: (w, { guest }) => removeRamBefore393(w, guest, PAGE) } },
      expect: violates('noCpuAccessToFreedFrame'),
    },
    fixed: { what: 'what is pending is done first, and a removed entry is zero', expect: holds },
  },
});
