import { expect, it } from 'vitest';
import type { Answer, Call, Hypercalls } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import { installSeam } from '#model/shared-memory/step';
import { faultSeam } from '#wire/fault-seam';
import { SteppedHypercalls } from './stepped-hypercalls.ts';

const sent: string[] = [];
const port = {
  multicall: (calls: readonly Call[]): readonly Answer[] => {
    sent.push(...calls.map(({ op }) => op));
    return calls.map((_, i) => ({ rc: 100 + i }));
  },
} as Hypercalls; // `call` is not used by what is tested

it('a failed call is answered in its place by its own convention, its neighbours run, and an access never fails', () => {
  const stalls: number[] = [];
  const thread = { process: 'guest', cpu: 1, extendWatchdog: (ms: number) => stalls.push(ms) } as const;
  const guest = { process: 'guest' } as const;
  const seam = faultSeam(
    [
      { at: { kind: 'hypercall', where: 7, nth: 2, every: 1 }, on: guest, do: { errno: errno.ENOMEM } },
      { at: { kind: 'guestAccess', nth: 1 }, on: guest, do: { errno: errno.EFAULT } },
      { at: { kind: 'guestAccess', nth: 1 }, on: { ...guest, pcpu: 1 }, do: { stallMs: 5 } },
      // Not this thread's: another vCPU, another process.
      { at: { kind: 'hypercall', nth: 1 }, on: { ...guest, pcpu: 0 }, do: { errno: errno.EINVAL } },
      { at: { kind: 'hypercall', nth: 1 }, do: { errno: errno.EINVAL } },
    ],
    thread,
  );
  installSeam(seam);
  const hypercalls = new SteppedHypercalls(port, 7);
  const frames = { start: 0, count: 4 };
  const answers = hypercalls.multicall([
    { op: 'memory_map' },
    { op: 'touch', frames },
    { op: 'decrease_reservation', domid: 7, order: 0, extents: frames },
    { op: 'claim_pages', domid: 7, pages: 1 },
    { op: 'verify', frames, tag: 0 },
  ]);
  expect(answers.map(({ rc }) => rc)).toEqual([100, 101, 0, -errno.ENOMEM, 102]);
  expect([sent, stalls]).toEqual([['memory_map', 'touch', 'verify'], [5]]);
});

it('a thread that no fault is for keeps its empty step', () => {
  const none = { process: 'guest', cpu: 0, extendWatchdog: () => {} } as const;
  expect(faultSeam([{ at: { kind: 'lock', nth: 1 }, do: { delayUs: 1 } }], none).step).toBeUndefined();
});
