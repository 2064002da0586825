// A careless or hostile guest calls with numbers at the edges: gfns that are misaligned, at the ends of superpages, of populate-on-
// demand ranges and of the address space; orders and counts beyond every limit, and none at all. Every combination of the tables is
// called on the same small host. Any answer is right that leaves the host sound.
import { type Actor, holds, litmus } from '#explore/litmus';
import type { World } from '#explore/world';
import { physmapSpace, XENMEMF_populate_on_demand } from '#model/hypercall/calls';

type Start = { readonly guest: number; readonly other: number };

const WIDEST = 2 ** 52 - 1;

const calls = (call: (w: World, names: Start, gfn: number, order: number, count: number) => void): Actor<Start> => ({
  kind: 'software',
  does(w, names) {
    call(w, names, w.arg('gfn'), w.arg('order'), w.arg('count'));
    // Whatever it did, the next one works on it.
    w.call(0, { op: 'get_pod_target', domid: names.guest });
    w.call(names.guest, { op: 'touch', frames: { start: 1022, count: 4 } });
  },
});

const populate = (memFlags: number): Actor<Start> =>
  calls((w, { guest: domid }, start, order, count) => {
    w.call(0, { op: 'populate_physmap', domid, order, memFlags, extents: { start, count } });
  });

const physmap = (space: number): Actor<Start> =>
  calls((w, { guest: domid }, gfn, order, count) => {
    w.call(domid, { op: 'add_to_physmap', domid, space, idx: gfn, gpfn: 1024 + order, size: count });
    w.call(domid, { op: 'add_to_physmap', domid, space, idx: order, gpfn: gfn, size: count });
  });

export default litmus({
  title: 'Hypercalls with numbers at the edges',
  source: 'XSA-388, XSA-224, XSA-378, XSA-301: arguments that nobody had thought of',
  arguments: {
    // RAM: a superpage at 512, single pages at 1024; populate on demand: a superpage at 1536.
    gfn: [0, 511, 512, 513, 1023, 1024, 1031, 1536, 1537, 2047, 2 ** 32 - 1, 2 ** 36 - 1, WIDEST],
    order: [0, 1, 9, 10, 19, 63],
    count: [0, 1, 2],
  },
  start(s) {
    const ram = [
      { gfn: 512, pages: 512 },
      { gfn: 1024, pages: 8 },
    ];
    const guest = s.guest({ ram, pod: [{ gfn: 1536, pages: 512 }], cache: 32 });
    return { guest, other: s.guest({ ram: [{ gfn: 512, pages: 8 }] }) };
  },
  actors: { caller: populate(0) },
  never: ['hostDoesNotPanic', 'callsMakeProgress', 'm2pIsInverseOfP2m', 'podEntryCountMatchesTable', 'leafIsAligned'],
  variants: {
    populate_physmap: { what: 'the toolstack populates, of orders up to 63', expect: holds },
    'populate_physmap, on demand': {
      what: 'the same with entries to be populated on demand',
      actors: { caller: populate(XENMEMF_populate_on_demand) },
      expect: holds,
    },
    decrease_reservation: {
      what: 'the guest gives pages up',
      actors: {
        caller: calls((w, { guest: domid }, start, order, count) => {
          w.call(domid, { op: 'decrease_reservation', domid, order, extents: { start, count } });
        }),
      },
      expect: holds,
    },
    'add_to_physmap, gmfn': {
      what: 'the guest moves a page to another place, and another page there',
      actors: { caller: physmap(physmapSpace.gmfn) },
      expect: holds,
    },
    'add_to_physmap, gmfn_range': {
      what: 'the same, a range of them',
      actors: { caller: physmap(physmapSpace.gmfnRange) },
      expect: holds,
    },
    'add_to_physmap, shared_info': {
      what: 'the guest asks for pages that are none of its own',
      actors: { caller: physmap(physmapSpace.sharedInfo) },
      expect: holds,
    },
    remove_from_physmap: {
      what: 'the guest removes a page',
      actors: {
        caller: calls((w, { guest: domid }, gfn, order) => {
          w.call(domid, { op: 'remove_from_physmap', domid, gpfn: gfn });
          w.call(domid, { op: 'remove_from_physmap', domid, gpfn: gfn + order });
        }),
      },
      expect: holds,
    },
    'targets and limits': {
      what: 'PoD targets, limits and claims of any size',
      actors: {
        caller: calls((w, { guest: domid }, gfn, order, count) => {
          w.call(0, { op: 'set_pod_target', domid, targetPages: gfn });
          w.call(0, { op: 'max_mem', domid, maxKb: gfn });
          w.call(0, { op: 'claim_pages', domid, pages: 2 ** order * count });
          w.call(0, { op: 'set_paging_mempool_size', domid, bytes: gfn });
        }),
      },
      expect: holds,
    },
    'foreign frames': {
      what: 'one guest maps frames of another, by index and place',
      actors: {
        caller: calls((w, { guest, other }, gfn, order, count) => {
          const idxs = { start: gfn, count };
          const gpfns = { start: 1024 + order, count };
          const space = physmapSpace.gmfnForeign;
          w.call(0, { op: 'add_to_physmap_batch', domid: guest, space, foreignDomid: other, idxs, gpfns });
        }),
      },
      expect: holds,
    },
    'what a vCPU does': {
      what: 'loads and stores at any place',
      actors: {
        caller: calls((w, { guest }, start, order, count) => {
          w.call(guest, { op: 'store', frames: { start, count }, tag: order });
          w.call(guest, { op: 'load', frames: { start, count } });
        }),
      },
      expect: holds,
    },
  },
});
