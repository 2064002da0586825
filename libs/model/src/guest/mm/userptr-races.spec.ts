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

describe('a userptr driver beside a kernel that moves its pages', () => {
  for (const pages of ['hmm', 'gup'] as const) {
    for (const gpuFaults of ['none', 'recoverable'] as const) {
      const onInvalidate = gpuFaults === 'none' ? 'wait' : 'zap';
      it(`never reaches a page that was taken away (${pages}, GPU faults ${gpuFaults}) when the retry check is under the lock`, async () => {
        const kernel = await race({ pages, gpuFaults, onInvalidate }, ({ rounds }) => rounds > 30_000, 20_000);
        expect(kernel.rounds).toBeGreaterThan(2000);
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
});
