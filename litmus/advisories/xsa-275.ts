// A page of a guest becomes read-only; its frame stays the same. The change of rights alone was no reason for a flush, so its NIC
// writes on, after Xen has told whoever asked that the page cannot change.
import { holds, litmus, violates } from '#explore/litmus';
import { NIC } from '#explore/machine';
import { hvmMem } from '#model/hypercall/calls';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { step, stepKind } from '#model/shared-memory/step';

const PAGE = 512;

export default litmus({
  title: 'Rights are cut and nobody flushes',
  source: 'XSA-275; Xen 1a7ffe466c and 937ef32565 (2018-11-20)',
  advisory: { id: 'XSA-275', kind: 'order', grain: 'model' },
  start(s) {
    const guest = s.guest({ ram: [{ gfn: PAGE, pages: 1 }], devices: [NIC] });
    s.warm(NIC, PAGE);
    return { guest, frame: peekEntry(s.host, s.domain(guest), PAGE, new Leaf()) };
  },
  actors: {
    toolstack: {
      kind: 'software',
      does(w, { guest, frame }) {
        const { tag } = w.host.frames;
        w.call(0, { op: 'set_mem_type', domid: guest, memType: hvmMem.ramRo, first: PAGE, count: 1 });
        const before = tag[frame];
        step(stepKind.yield, frame);
        const text = `a page that can only be read since the call returned had ${before} in it, and has ${tag[frame]}`;
        w.require(tag[frame] === before, 'rightsReductionInvalidates', text);
      },
    },
    nic: { kind: 'hardware', does: (w) => void w.dma(NIC, PAGE, 'w', { tag: 7 }) },
  },
  never: ['rightsReductionInvalidates'],
  variants: {
    buggy: {
      what: 'as before the fix: a flush is wanted only where the frame changes',
      actors: {
        toolstack: {
          kind: 'software',
          does(w, { guest, frame }) {
            const { tag } = w.host.frames;
            w.host.iommu.dontFlush = true;
            w.call(0, { op: 'set_mem_type', domid: guest, memType: hvmMem.ramRo, first: PAGE, count: 1 });
            w.host.iommu.dontFlush = false;
            const before = tag[frame];
            step(stepKind.yield, frame);
            const text = `a page that can only be read since the call returned had ${before} in it, and has ${tag[frame]}`;
            w.require(tag[frame] === before, 'rightsReductionInvalidates', text);
          },
        },
      },
      expect: violates('rightsReductionInvalidates'),
    },
    fixed: { what: 'frame, rights, level and presence are compared', expect: holds },
  },
});
