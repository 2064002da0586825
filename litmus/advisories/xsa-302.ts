// A guest dies, and its NIC goes back to dom0. What the guest told it to do is still in the NIC: it writes to an address of the guest,
// which is one of dom0 now.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import type { World } from '#explore/world';
import { DOMID_IO, type Mfn, type Sbdf } from '#model/frames/addresses';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { step, stepKind } from '#model/shared-memory/step';

const PAGE = 5;
const TAG = 7;

/** A function-level reset: bus mastering is off, and what was under way has ended. */
function resetFunction(w: World, sbdf: Sbdf): void {
  const { iommu, lockTable } = w.host;
  const device = iommu.deviceIndex(sbdf);
  step(stepKind.write, device);
  iommu.write(device, 'busMasterOff', 1);
  iommu.inFlight.waitForOpen(iommu.unitOf(device).index, lockTable);
}

export default litmus({
  title: 'A device returns to dom0 with DMA of its guest in flight',
  source: 'XSA-302; Xen 319f9a0ba9 (2019-10-31), the default since ba2ab00bbb (XSA-306)',
  advisory: { id: 'XSA-302', kind: 'order', grain: 'model' },
  machine: { dom0Pages: 16 },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 1 }], devices: [NIC] });
    return { guest, frame: peekEntry(s.host, s.domain(0), PAGE, new Leaf()) };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does: [
        (w, { guest }) => void w.call(0, { op: 'deassign_device', domid: guest, sbdf: NIC }),
        (w) => resetFunction(w, NIC),
        (w) => {
          if (w.ownerOf(NIC) === DOMID_IO) w.call(0, { op: 'deassign_device', domid: DOMID_IO, sbdf: NIC });
        },
      ],
    },
    nic: {
      kind: 'hardware',
      does(w, { frame }) {
        w.dma(NIC, PAGE, 'w', { tag: TAG });
        step(stepKind.read, frame);
        const text = `what the guest told its NIC to write is in mfn ${(frame as Mfn).toString(16)} of dom0`;
        w.require(w.host.frames.tag[frame] !== TAG, 'deassignedDeviceNeverReachesDom0BeforeReset', text);
      },
    },
  },
  never: ['deassignedDeviceNeverReachesDom0BeforeReset'],
  variants: {
    buggy: {
      what: 'as before the fix: the device goes straight back to dom0',
      machine: { dom0Pages: 16, quarantine: 'none' },
      expect: violates('deassignedDeviceNeverReachesDom0BeforeReset'),
    },
    fixed: { what: 'quarantine first; to dom0 only after a reset', expect: holds },
    'fixed, scratch page': {
      what: 'the same where quarantine is a page that takes all writes',
      machine: { dom0Pages: 16, quarantine: 'scratch-page' },
      expect: holds,
    },
  },
});
