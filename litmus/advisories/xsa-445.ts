// A device goes into quarantine, where all its writes are to end in a scratch page that the next user finds clean. Tables of four levels
// were built for a unit that walks three: the writes end in whatever page the walk takes for the last.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { DOMID_IO } from '#model/frames/addresses';
import { capableUnit } from '#model/host-config';
import { step, stepKind } from '#model/shared-memory/step';
import { buildFourLevels } from '../variants/quarantine-tables.ts';

const TAG = 7;

export default litmus({
  title: 'Quarantine tables are a level too deep',
  source: 'XSA-445; Xen fe1e4668b3 (2023-11-14)',
  advisory: { id: 'XSA-445', kind: 'sequential', grain: 'model' },
  machine: { quarantine: 'scratch-page', units: [{ ...capableUnit, levels: 3 }] },
  start: (s) => ({ guest: s.guest({ iommu: true }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w) => void w.call(0, { op: 'assign_device', domid: DOMID_IO, sbdf: NIC, flags: 0 }),
    },
    nic: {
      kind: 'hardware',
      does(w) {
        if (w.ownerOf(NIC) !== DOMID_IO || w.dma(NIC, 5, 'w', { tag: TAG }) !== 0) return;
        const scratch = (w.host.iommu.scratch[0] as number) - 1;
        step(stepKind.read, scratch);
        const text = `a quarantined device wrote, and mfn ${scratch.toString(16)}, the scratch page, has not changed`;
        w.require(w.host.frames.tag[scratch] === TAG, 'quarantineTargetIsTheScratchPage', text);
      },
    },
  },
  never: ['quarantineTargetIsTheScratchPage'],
  variants: {
    buggy: {
      what: 'as before the fix: built for a constant width, entered with that of the unit',
      actors: {
        toolstack: {
          kind: 'software',
          does(w) {
            buildFourLevels(w, NIC);
            w.call(0, { op: 'assign_device', domid: DOMID_IO, sbdf: NIC, flags: 0 });
          },
        },
      },
      expect: violates('quarantineTargetIsTheScratchPage'),
    },
    'as deep as the unit': {
      what: 'the old tables on a unit of four levels: nothing is wrong',
      machine: { units: [capableUnit] },
      actors: {
        toolstack: {
          kind: 'software',
          does(w) {
            buildFourLevels(w, NIC);
            w.call(0, { op: 'assign_device', domid: DOMID_IO, sbdf: NIC, flags: 0 });
          },
        },
      },
      expect: holds,
    },
    fixed: { what: 'built for the levels of the unit', expect: holds },
  },
});
