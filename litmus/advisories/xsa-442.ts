// A NIC is taken from a guest, which then gives memory up. The entry of the device has changed and has been invalidated; what was
// translated by the old one is still looked up by the device, and used.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { capableUnit } from '#model/host-config';
import { assignKeepingTranslations } from '../variants/context.ts';

const PAGE = 512;

export default litmus({
  title: 'A device entry changes and its cached translations stay',
  source: 'XSA-442; Xen 5fc98b9708 (2023-10-11)',
  advisory: {
    id: 'XSA-442',
    kind: 'order',
    grain: 'model',
    note: 'What AMD looks up by requester is here the TLB of the device itself (ATS), which knows no domain either.',
  },
  machine: {
    quarantine: 'none',
    units: [{ ...capableUnit, ats: true }],
    devices: [
      {
        sbdf: NIC,
        name: 'nic',
        vendor: 0x8086,
        device: 1,
        pciClass: 0x020000,
        unit: 0,
        upstreamBridge: null,
        bars: [],
        ats: true,
      },
    ],
  },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 2 }], devices: [NIC] });
    s.warm(NIC, PAGE);
    return { guest };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does: [
        (w, { guest }) => void w.call(0, { op: 'deassign_device', domid: guest, sbdf: NIC }),
        (w, { guest }) =>
          void w.call(0, { op: 'decrease_reservation', domid: guest, order: 0, extents: { start: PAGE, count: 1 } }),
      ],
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, PAGE, 'w') },
  },
  never: ['deviceEntryChangeImpliesIotlbFlush', 'noDmaToForeignFrame', 'noDmaToFreedFrame'],
  variants: {
    buggy: {
      what: 'as before the fix: the entry is invalidated, translations made by it are not',
      policies: { ats: 'on' },
      actors: {
        toolstack: {
          kind: 'software',
          does: [
            (w) => assignKeepingTranslations(w, 0, NIC),
            (w, { guest }) =>
              void w.call(0, {
                op: 'decrease_reservation',
                domid: guest,
                order: 0,
                extents: { start: PAGE, count: 1 },
              }),
          ],
        },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    fixed: {
      what: 'with the entry goes everything that was translated by it',
      policies: { ats: 'on' },
      expect: holds,
    },
  },
});
