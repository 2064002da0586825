import { describe, expect, it } from 'vitest';
import { Kernel } from '../../../test-support/mm-fixture.ts';
import { errno } from '../../hypercall/errno.ts';
import { rangeOf } from './invalidation.ts';
import type { Mm } from './mm.ts';
import type { NotifierRange } from './notifiers.ts';
import { isOdd, nextSequence, previousSequence, type Sequence, sameSequence, throughInt32 } from './sequence.ts';

interface Called {
  readonly sub: number;
  readonly range: NotifierRange;
  readonly sequence: Sequence;
}

/** Driver 0 of the kernel notes its calls; `refuse` says which it refuses. */
function noting(mm: Mm, refuse: (sub: number, range: NotifierRange) => boolean = () => false): Called[] {
  const calls: Called[] = [];
  mm.notifiers.registerDriver(0, {
    invalidate: (sub, range, sequence) => {
      if (refuse(sub, range)) return false;
      mm.notifiers.setSequence(sub, sequence);
      calls.push({ sub, range, sequence });
      return true;
    },
  });
  return calls;
}

const kernelAt = (firstSequence: Sequence): Kernel => new Kernel({ drivers: ['driver'], firstSequence });
/** Around every place where 32 bits, 53 bits or 64 bits could matter. */
const boundaries: readonly Sequence[] = [
  { lo: 2, hi: 0 },
  { lo: 0x7ffffffc, hi: 0 },
  { lo: 0xfffffffc, hi: 0 },
  { lo: 0xfffffffc, hi: 0x1fffff },
  { lo: 0xfffffffc, hi: 0x7fffffff },
  { lo: 0xfffffffc, hi: 0xffffffff },
];

describe('the sequence protocol of interval notifiers', () => {
  for (const first of boundaries) {
    it(`holds from sequence ${first.hi.toString(16)}:${first.lo.toString(16)} on`, () => {
      const { mm } = kernelAt(first);
      const calls = noting(mm);
      const sub = mm.notifiers.insert(0, 0, 8);
      let expected = first;
      for (let i = 0; i < 8; i++) {
        const begun = mm.notifiers.readBegin(sub);
        expect(mm.notifiers.readRetry(sub, begun)).toBe(false);
        const range = rangeOf(2, 3, 'migrate');
        expect(mm.notifiers.start(range)).toBe(0);
        expect(mm.notifiers.current).toEqual(nextSequence(expected));
        expect(mm.notifiers.readRetry(sub, begun)).toBe(true);
        mm.notifiers.end(range);
        expected = nextSequence(nextSequence(expected));
        expect(mm.notifiers.current).toEqual(expected);
        // What was begun before stays out of date for ever after.
        expect(mm.notifiers.readRetry(sub, begun)).toBe(true);
      }
      expect(calls.map(({ sequence }) => isOdd(sequence))).toEqual(new Array(8).fill(true));
    });
  }

  it('a range that nobody subscribed to calls nobody and leaves the sequence even', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    const calls = noting(mm);
    mm.notifiers.insert(0, 0, 8);
    const range = rangeOf(8, 9, 'unmap');
    mm.notifiers.start(range);
    expect([calls.length, mm.notifiers.current]).toEqual([0, { lo: 2, hi: 0 }]);
    mm.notifiers.end(range);
    expect(mm.notifiers.current).toEqual({ lo: 2, hi: 0 });
  });

  it('overlapping invalidations share one odd sequence, which lasts until the last one has ended', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    const calls = noting(mm);
    mm.notifiers.insert(0, 0, 8);
    const [a, b] = [rangeOf(0, 1, 'unmap'), rangeOf(4, 5, 'clear')];
    mm.notifiers.start(a);
    mm.notifiers.start(b);
    mm.notifiers.end(a);
    expect([mm.notifiers.current, mm.notifiers.active]).toEqual([{ lo: 3, hi: 0 }, 1]);
    mm.notifiers.end(b);
    expect([mm.notifiers.current, mm.notifiers.active]).toEqual([{ lo: 4, hi: 0 }, 0]);
    expect(calls.map(({ sequence }) => sequence.lo)).toEqual([3, 3]);
  });

  it('a fresh subscription’s sequence is odd and just behind: a reader that begins with it is not made to wait', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    noting(mm);
    const sub = mm.notifiers.insert(0, 0, 8);
    expect(mm.notifiers.readBegin(sub)).toEqual({ lo: 1, hi: 0 });
  });

  it('a subscription made during an invalidation takes effect when it ends, and its readers wait until then', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    const calls = noting(mm);
    mm.notifiers.insert(0, 0, 8);
    const range = rangeOf(0, 8, 'unmap');
    mm.notifiers.start(range);
    const late = mm.notifiers.insert(0, 0, 8);
    const nested = rangeOf(0, 1, 'clear');
    mm.notifiers.start(nested);
    expect(calls.map(({ sub }) => sub)).not.toContain(late);
    mm.notifiers.end(nested);
    mm.notifiers.end(range);
    const after = rangeOf(0, 1, 'clear');
    mm.notifiers.start(after);
    expect(calls.at(-1)?.sub).toBe(late);
    mm.notifiers.end(after);
  });
});

describe('a range that is not blockable', () => {
  it('is refused as a whole with -EAGAIN if one subscriber refuses, and nothing is under way after', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    noting(mm, (sub) => sub === 1);
    mm.notifiers.insert(0, 0, 8);
    mm.notifiers.insert(0, 0, 8);
    expect(mm.notifiers.start(rangeOf(0, 8, 'unmap', false))).toBe(-errno.EAGAIN);
    expect([mm.notifiers.active, mm.notifiers.current]).toEqual([0, { lo: 4, hi: 0 }]);
  });

  it('calls the end of every range subscriber that has one when another refuses', () => {
    const { mm } = kernelAt({ lo: 2, hi: 0 });
    const ended: string[] = [];
    mm.notifiers.registerRange({ name: 'good', start: () => 0, end: () => void ended.push('good') });
    mm.notifiers.registerRange({ name: 'busy', start: () => -errno.EAGAIN });
    expect(mm.notifiers.start(rangeOf(0, 8, 'unmap', false))).toBe(-errno.EAGAIN);
    expect([ended, mm.notifiers.active]).toEqual([['good'], 0]);
  });

  it('a subscriber that refuses though it may block breaks blockableCallbackNeverFails, and the core goes on', () => {
    const kernel = kernelAt({ lo: 2, hi: 0 });
    noting(kernel.mm, () => true);
    kernel.mm.notifiers.insert(0, 0, 8);
    expect(kernel.mm.notifiers.start(rangeOf(0, 8, 'unmap'))).toBe(0);
    expect(kernel.violated).toEqual(['blockableCallbackNeverFails']);
  });
});

it('sequences count through all 64 bits, and a signed 32-bit copy is the same number within 2^31 of zero only', () => {
  for (const s of boundaries) {
    expect(previousSequence(nextSequence(s))).toEqual(s);
    expect(sameSequence(throughInt32(s), s)).toBe(s.lo < 2 ** 31 ? s.hi === 0 : s.hi === 0xffffffff);
  }
  expect(nextSequence({ lo: 0xffffffff, hi: 0xffffffff })).toEqual({ lo: 0, hi: 0 });
});
