// A NIC behind a unit that walks three levels is given to a guest whose tables it shares with the CPU, and those have four. Entered at
// the top, the walk ends one level too early: a table is taken for the guest's page.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { capableUnit } from '#model/host-config';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { assignAtTheTop } from '../variants/context.ts';

const PAGE = 0;
const TAG = 7;

export default litmus({
  title: 'Shared tables are handed to a unit of fewer levels',
  source: 'XSA-390; Xen 02b46377b6 (2021-11-19), introduced by 25ccd09342',
  advisory: { id: 'XSA-390', kind: 'sequential', grain: 'model' },
  machine: { units: [{ ...capableUnit, levels: 3 }], dom0Pages: 16 },
  start: (s) => ({ guest: s.guest({ iommu: true, ram: [{ gfn: PAGE, pages: 1 }] }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
    nic: {
      kind: 'hardware',
      does(w, { guest }) {
        if (w.ownerOf(NIC) !== guest || w.dma(NIC, PAGE, 'w', { tag: TAG }) !== 0) return;
        const m = peekEntry(w.host, w.domain(guest), PAGE, new Leaf());
        const text = `the NIC wrote to dfn ${PAGE.toString(16)}, and mfn ${m.toString(16)} behind that gfn has not changed`;
        w.require(w.host.frames.tag[m] === TAG, 'cpuAndDeviceAgreeOnGfn', text);
      },
    },
  },
  never: ['ioWalkDepthMatchesTableDepth', 'cpuAndDeviceAgreeOnGfn'],
  variants: {
    buggy: {
      what: 'as before the fix: the root is the top of the tables, the width what the unit can do',
      policies: { iommuTables: 'shared' },
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignAtTheTop(w, guest, NIC) } },
      expect: violates('ioWalkDepthMatchesTableDepth'),
    },
    'buggy, a DMA': {
      what: 'the same, by where a write lands',
      policies: { iommuTables: 'shared' },
      actors: { toolstack: { kind: 'software', does: (w, { guest }) => assignAtTheTop(w, guest, NIC) } },
      expect: violates('cpuAndDeviceAgreeOnGfn'),
    },
    fixed: {
      what: 'as many levels are skipped at the top as the unit lacks',
      policies: { iommuTables: 'shared' },
      expect: holds,
    },
    'fixed, separate tables': { what: 'the same with tables of the devices’ own', expect: holds },
  },
});
