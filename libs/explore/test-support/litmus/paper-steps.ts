// A step program with a bug of each sort, for the specs: a frame that is freed before the flush, an allocation that may fail, an entry
// written in two stores, and a misaligned argument.
import { holds, violates } from '../../src/litmus.ts';
import { stepProgram } from '../../src/step-program.ts';

const PAGE = 3;
const OTHER = 4;

export default stepProgram({
  title: 'Steps on a paper host',
  source: 'a test of step programs',
  locks: { p2m: 'mutex' },
  words: { taken: 0 },
  faults: ['ptAlloc'],
  arguments: { gfn: [4, 5] },
  start(p) {
    p.frameAlloc(PAGE, 1);
    p.frameAlloc(OTHER, 1);
    p.ioWrite(1, p.arg('gfn'), { frame: PAGE });
    p.ctxWrite(0, { domain: 1 });
  },
  actors: {
    owner: {
      kind: 'software',
      does(p) {
        p.lock('p2m');
        if (!p.ptAlloc('io(2)')) {
          p.unlock('p2m');
          return;
        }
        p.ioClear(1, p.arg('gfn'));
        p.iotlbFlush(1, p.arg('gfn'));
        p.unlock('p2m');
        p.frameFree(PAGE);
      },
    },
    device: { kind: 'hardware', does: (p) => p.dma(0, p.arg('gfn'), 'w') },
  },
  never: ['noDmaToFreedFrame'],
  variants: {
    'freed before the flush': {
      what: 'the flush comes last',
      actors: {
        owner: {
          kind: 'software',
          does(p) {
            p.ioClear(1, p.arg('gfn'));
            p.frameFree(PAGE);
            p.iotlbFlush(1, p.arg('gfn'));
          },
        },
        device: {
          kind: 'hardware',
          does: [(p) => p.dma(0, p.arg('gfn'), 'r'), (p) => p.dma(0, p.arg('gfn'), 'w')],
        },
      },
      expect: violates('noDmaToFreedFrame'),
    },
    'a failure is not looked at': {
      what: 'without a table the page is freed and stays mapped',
      actors: {
        owner: {
          kind: 'software',
          does(p) {
            if (p.ptAlloc('io(2)')) p.ioClear(1, p.arg('gfn'));
            p.iotlbFlush(1);
            p.frameFree(PAGE);
          },
        },
        device: { kind: 'hardware', does: () => {} },
      },
      expect: violates('noIommuLeafToFreeFrame'),
    },
    'in two stores': {
      what: 'the frame is replaced before the rights',
      actors: {
        owner: {
          kind: 'software',
          does: (p) => p.ptWriteFields('io(1)', p.arg('gfn'), [{ frame: OTHER }, { rights: 'r' }]),
        },
      },
      expect: violates('walkerSeesOldOrNewEntryOnly'),
    },
    'an odd gfn': {
      what: 'only one of the arguments breaks it',
      actors: {
        owner: {
          kind: 'software',
          does(p) {
            p.ioClear(1, 4);
            p.iotlbFlush(1);
            p.frameFree(PAGE);
          },
        },
        device: { kind: 'hardware', does: () => {} },
      },
      expect: violates('noIommuLeafToFreeFrame'),
    },
    right: { what: 'cleared, flushed, freed; or nothing at all', expect: holds },
  },
});
