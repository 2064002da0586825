// Xen unmaps a page, waits for the unit to flush it, and gives up. It unmaps another one and waits again, by the same status word: the
// status of the first request comes late, and is taken for the completion of the second, whose frame is then freed.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { step, stepKind } from '#model/shared-memory/step';
import { removeGivingUp } from '../variants/flush-wait.ts';

const [FIRST, SECOND] = [512, 513];

export default litmus({
  title: 'A late completion is taken for that of the next flush',
  source: 'XSA-373; Xen 7c893abc4e, cbfa62bb14, e4fee66043, df242851dd and c4e4434357 (2021-06-08)',
  advisory: {
    id: 'XSA-373',
    kind: 'order',
    grain: 'model',
    note: 'One preemption more than on hardware: a CPU that waits while the engine works looks at its status again when that rests.',
  },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: FIRST, pages: 3 }], devices: [NIC] });
    s.warm(NIC, FIRST, 2);
    return { guest };
  },
  actors: {
    vcpu: {
      kind: 'software',
      does: [
        (w, { guest }) => void w.call(guest, { op: 'remove_from_physmap', domid: guest, gpfn: FIRST }),
        (w, { guest }) =>
          void w.call(guest, {
            op: 'decrease_reservation',
            domid: guest,
            order: 0,
            extents: { start: SECOND, count: 1 },
          }),
      ],
    },
    engine: {
      kind: 'hardware',
      // The unit carries out what it finds in its queue, at its own speed.
      does(w) {
        step(stepKind.hwFlush, 0);
        w.host.iommu.units[0]?.queue?.turn();
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, SECOND, 'w') },
  },
  never: ['completionBelongsToItsRequest', 'noFrameFreedWhileIotlbHoldsIt', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix (VT-d): the first wait is given up, the second satisfied by what the first one waited for',
      actors: {
        vcpu: {
          kind: 'software',
          does: [
            (w, { guest }) => removeGivingUp(w, guest, FIRST, 'told'),
            (w, { guest }) =>
              void w.call(guest, {
                op: 'decrease_reservation',
                domid: guest,
                order: 0,
                extents: { start: SECOND, count: 1 },
              }),
          ],
        },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, nobody is told': {
      what: 'as before the fix (AMD): the wait is given up, and the frame freed',
      actors: { vcpu: { kind: 'software', does: (w, { guest }) => removeGivingUp(w, guest, SECOND, 'untold') } },
      expect: violates('noDmaToFreedFrame'),
    },
    'buggy, queue full': {
      what: 'as before the fix (AMD): the request finds no room, and nobody is told either',
      actors: { vcpu: { kind: 'software', does: (w, { guest }) => removeGivingUp(w, guest, SECOND, 'full') } },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: { what: 'a wait has no limit', expect: holds },
  },
});
