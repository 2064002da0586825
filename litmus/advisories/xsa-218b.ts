// A PV guest has a grant mapped for its CPUs and its devices, and two of its vCPUs take one part each away.
import { holds, litmus, violates } from '#explore/litmus';
import { gntmap } from '#model/grant/status';
import { grant, granter, map, pvGuest } from '../starts/grants.ts';
import { unmapFreesBareHandle } from '../variants/unmap-grant.ts';

const hostPart = (handle: number) => ({ handle, hostAddr: 0x1000, devBusAddr: 0 });
const devicePart = (handle: number, address: number) => ({ handle, hostAddr: 0, devBusAddr: address });

export default litmus({
  title: 'A handle of a mapped grant is freed twice',
  source: 'XSA-218; Xen b7f6cbb9d4 (2017-06-20)',
  advisory: { id: 'XSA-218b', kind: 'race', grain: 'model' },
  start(s) {
    const mapper = pvGuest(s);
    const owner = granter(s);
    grant(s, owner, mapper, 512);
    return { mapper, ...map(s, mapper, owner, gntmap.host | gntmap.device) };
  },
  actors: {
    host: {
      kind: 'software',
      does(w, { mapper, handle }) {
        w.call(mapper, { op: 'gnttab_unmap_grant_ref', ops: [hostPart(handle)] });
      },
    },
    device: {
      kind: 'software',
      does(w, { mapper, handle, address }) {
        w.call(mapper, { op: 'gnttab_unmap_grant_ref', ops: [devicePart(handle, address)] });
      },
    },
  },
  never: ['handleFreedOnce'],
  variants: {
    buggy: {
      what: 'after the flush the handle is freed if nothing is left of it, by whoever finds that',
      actors: {
        host: {
          kind: 'software',
          does: (w, { mapper, handle }) => unmapFreesBareHandle(w, mapper, hostPart(handle)),
        },
        device: {
          kind: 'software',
          does: (w, { mapper, handle, address }) => unmapFreesBareHandle(w, mapper, devicePart(handle, address)),
        },
      },
      expect: violates('handleFreedOnce'),
    },
    fixed: { what: 'whoever took the last part frees the handle', expect: holds },
  },
});
