import { describe, expect, it } from 'vitest';
import { Kernel } from '../../../test-support/mm-fixture.ts';
import { checkMm } from './mm-invariants.ts';
import { mmapPages } from './unmap.ts';
import { type UserptrConfig, userptrDefaults } from './userptr-state.ts';

const TASKS = ['main', 'gpu-engine', 'submit', 'churn', 'churn'];
const PAGES = 8;

/** A GPU that works on user memory over and over, while two tasks move, swap and unmap that memory. */
async function race(some: Partial<UserptrConfig>, enough: (kernel: Kernel) => boolean, ms: number): Promise<Kernel> {
  const config = { ...userptrDefaults, ...some };
  const kernel = new Kernel(
    { tasks: TASKS, drivers: ['i915'], pages: PAGES, frames: { ram: 12, vram: 8, slot: 0 } },
    config,
  );
  expect(mmapPages(kernel.mm, { kind: 'ram', start: 0, end: PAGES, writable: true })).toBe(0);
  expect(kernel.userptr.create(0, PAGES, true)).toBe(0);
  const roles = ['engine', 'submit', 'churn', 'churn'] as const;
  for (const [i, role] of roles.entries())
    await kernel.start({ task: i + 1, role, first: 0, count: PAGES, seed: 77 + i });
  await kernel.runUntil(() => enough(kernel), ms);
  await kernel.stop();
  expect(kernel.mm.panicCell.message()).toBeNull();
  return kernel;
}

const enough = ({ rounds, mm }: Kernel): boolean => rounds > 10_000 && mm.fences.created > 400;

describe('a userptr driver beside a kernel that moves its pages', () => {
  for (const pages of ['hmm', 'gup'] as const) {
    for (const gpuFaults of ['none', 'recoverable'] as const) {
      const onInvalidate = gpuFaults === 'none' ? 'wait' : 'zap';
      it(`never reaches a page that was taken away (${pages}, GPU faults ${gpuFaults}) when the retry check is under the lock`, async () => {
        const kernel = await race({ pages, gpuFaults, onInvalidate }, enough, 20_000);
        expect(kernel.rounds).toBeGreaterThan(2000);
        expect(kernel.mm.fences.created).toBeGreaterThan(200);
        expect(kernel.violated).toEqual([]);
        expect(checkMm(kernel.mm)).toEqual([]);
      });
    }
  }

  for (const retryCheck of ['missing', 'before-lock'] as const) {
    it(`programs a page that was taken away, and the GPU reaches it, when the retry check is ${retryCheck}`, async () => {
      const harmed = (kernel: Kernel): boolean => kernel.violations('noAccessAfterInvalidate') > 0;
      const kernel = await race({ retryCheck }, harmed, 40_000);
      expect(kernel.violations('noMappingWithStaleSequence')).toBeGreaterThan(0);
      expect(kernel.violations('noAccessAfterInvalidate')).toBeGreaterThan(0);
    });
  }

  it('with pins the pages stay where they are, and the GPU reaches them whatever the kernel would like', async () => {
    const kernel = await race({ mapping: 'pin' }, enough, 20_000);
    expect(kernel.mm.fences.created).toBeGreaterThan(200);
    expect(kernel.violated).toEqual([]);
    expect(checkMm(kernel.mm)).toEqual([]);
  });

  it('loses a job when a GPU without page faults is not waited for', async () => {
    const lost = (kernel: Kernel): boolean => kernel.violations('noDeviceFaultInsideFence') > 0;
    const kernel = await race({ onInvalidate: 'zap' }, lost, 40_000);
    expect(kernel.violated).toEqual(['noDeviceFaultInsideFence']);
  });
});

describe('a GPU job that needs a page fault, and a callback that waits for the job', () => {
  /** The callback of a munmap meets a job that has not begun; then the engine begins it. */
  async function faultInsideFence(onInvalidate: UserptrConfig['onInvalidate']): Promise<Kernel> {
    const config: UserptrConfig = { ...userptrDefaults, gpuFaults: 'recoverable', onInvalidate, engine: 2 };
    const kernel = new Kernel({ tasks: ['main', 'munmap', 'gpu-engine'], drivers: ['xe'], pages: PAGES }, config);
    mmapPages(kernel.mm, { kind: 'ram', start: 0, end: PAGES, writable: true });
    kernel.userptr.create(0, PAGES, true);
    const fence = kernel.userptr.submit(0, true, 1);
    await kernel.start({ task: 1, role: 'munmap', first: 0, count: PAGES, seed: 1 });
    // Either it waits by now, or it is done.
    await kernel.runUntil(() => kernel.mm.graph.isWaiting(1) || kernel.rounds > 0, 20_000);
    await kernel.start({ task: 2, role: 'engine', first: 0, count: PAGES, seed: 2 });
    await kernel.runUntil(() => kernel.mm.panicCell.message() !== null || kernel.mm.fences.isSignalled(fence), 20_000);
    await kernel.stop();
    return kernel;
  }

  it('are a circle, reported with all its edges instead of a hang', async () => {
    const kernel = await faultInsideFence('wait');
    expect(kernel.violated).toEqual(['noWaitCycle']);
    const text = kernel.mm.panicCell.message();
    expect(text).toContain('munmap (cpu1) waits for fence 1');
    expect(text).toContain('fence 1 is to be signalled by gpu-engine (cpu2)');
    expect(text).toContain('gpu-engine (cpu2) waits for guestDriver(0)');
    expect(text).toContain('guestDriver(0) is held by munmap (cpu1)');
  });

  it('are none when the callback only takes the entries: the job is lost with its memory, nobody hangs', async () => {
    const kernel = await faultInsideFence('zap');
    expect([kernel.violated, kernel.mm.panicCell.message()]).toEqual([[], null]);
    expect(checkMm(kernel.mm)).toEqual([]);
  });
});
