// A PV guest has a grant mapped for its CPUs, its devices or both, and unmaps it twice in every way that the call's arguments allow:
// naming the CPU's part or not, the device's part rightly, wrongly or not.
import { holds, litmus, violates } from '#explore/litmus';
import type { World } from '#explore/world';
import { gntmap } from '#model/grant/status';
import type { UnmapOp } from '#model/grant/unmap';
import { grant, granter, map, pvGuest } from '../starts/grants.ts';
import { unmapBySavedFlags } from '../variants/unmap-grant.ts';

const ADDRESS = 0x40_0000;
const bus = { none: 0, right: 1, wrong: 2 } as const;

type Names = { readonly mapper: number; readonly handle: number; readonly address: number };

const unmapping = (w: World, { handle, address }: Names): UnmapOp => {
  const devBusAddr = w.arg('bus') === bus.none ? 0 : address + (w.arg('bus') === bus.wrong ? 4096 : 0);
  return { handle, hostAddr: w.arg('host') === 0 ? 0 : ADDRESS, devBusAddr };
};

export default litmus({
  title: 'Unmapping without a bus address drops a reference that was never taken',
  source: 'XSA-224; Xen 8fdfcb2b6b, 75b384ece6, 11fc7ccb72, 56f2ab5b97 (2017-06-20)',
  advisory: {
    id: 'XSA-224',
    kind: 'sequential',
    grain: 'model',
    note: 'References are accounted for exactly, so the first bogus unmap is found; the free page takes a second one.',
  },
  arguments: {
    mapped: [gntmap.host, gntmap.device, gntmap.host | gntmap.device],
    host: [0, 1],
    bus: Object.values(bus),
  },
  start(s): Names {
    const mapper = pvGuest(s);
    const owner = granter(s);
    grant(s, owner, mapper, 512);
    return { mapper, ...map(s, mapper, owner, s.arg('mapped')) };
  },
  actors: {
    mapper: {
      kind: 'software',
      does(w, names) {
        const op = unmapping(w, names);
        for (let i = 0; i < 2; i++) w.call(names.mapper, { op: 'gnttab_unmap_grant_ref', ops: [op] });
      },
    },
  },
  never: ['everyFrameHasOneOwner', 'pinnedImpliesReferenced'],
  variants: {
    buggy: {
      what: 'the second pass goes by the flags that the handle had before the first one',
      actors: {
        mapper: {
          kind: 'software',
          does(w, names) {
            for (let i = 0; i < 2; i++) unmapBySavedFlags(w, names.mapper, unmapping(w, names));
          },
        },
      },
      expect: violates('everyFrameHasOneOwner'),
    },
    fixed: { what: 'a part that is not named is not completed either', expect: holds },
  },
});
