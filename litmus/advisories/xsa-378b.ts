// Firmware declares two reserved ranges of a NIC. Xen keeps one range per device, which grows by the second: what lies between them is
// mapped for the NIC as well, and is somebody else's.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import type { RmrrConfig } from '#model/host-config';
import { NEIGHBOUR, RESERVED } from '../starts/reserved-memory.ts';
import { keptAsOneRange } from '../variants/firmware-regions.ts';

const PAGES = 4;
/** The first page and the last. */
const DECLARED: readonly RmrrConfig[] = [RESERVED, RESERVED + PAGES - 1].map((pfn) => ({
  startPfn: pfn,
  endPfn: pfn,
  devices: [NIC],
}));
const isDeclared = (dfn: number): boolean => DECLARED.some(({ startPfn, endPfn }) => dfn >= startPfn && dfn <= endPfn);

export default litmus({
  title: 'What lies between two reserved ranges is mapped too',
  source: 'XSA-378; Xen 34750a3eb0 and b02c5c8898 (2021-08-25)',
  advisory: { id: 'XSA-378b', kind: 'sequential', grain: 'model' },
  machine: { rmrrs: DECLARED },
  arguments: { page: [0, 1, 2, 3] },
  start: (s) => ({ guest: s.guest({ iommu: true, ram: [NEIGHBOUR] }) }),
  actors: {
    toolstack: {
      kind: 'software',
      does: (w, { guest }) => void w.call(0, { op: 'assign_device', domid: guest, sbdf: NIC, flags: 0 }),
    },
    nic: {
      kind: 'hardware',
      does(w, { guest }) {
        if (w.ownerOf(NIC) !== guest) return;
        const dfn = RESERVED + w.arg('page');
        const reached = w.dma(NIC, dfn, 'w') === 0;
        const text = `the NIC of d${guest} wrote to frame ${dfn.toString(16)}, which firmware never declared for it`;
        w.require(!reached || isDeclared(dfn), 'onlyDeclaredFramesAreUnityMapped', text);
      },
    },
  },
  never: ['onlyDeclaredFramesAreUnityMapped'],
  variants: {
    buggy: {
      what: 'as before the fix: one range per device, which grows',
      machine: { rmrrs: keptAsOneRange(DECLARED) },
      expect: violates('onlyDeclaredFramesAreUnityMapped'),
    },
    fixed: { what: 'each range for itself', expect: holds },
  },
});
