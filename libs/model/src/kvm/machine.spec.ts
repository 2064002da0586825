import { describe, expect, it } from 'vitest';
import { Kernel } from '../../test-support/mm-fixture.ts';
import { migratePage } from '../guest/mm/migration.ts';
import { checkMm } from '../guest/mm/mm-invariants.ts';
import { swapOut } from '../guest/mm/reclaim.ts';
import type { Sequence } from '../guest/mm/sequence.ts';
import { mmapPages, munmap } from '../guest/mm/unmap.ts';
import type { VmaKind } from '../guest/mm/vma.ts';
import { errno } from '../hypercall/errno.ts';
import { createKvm, type KvmConfig, KvmMachine } from './machine.ts';

const PAGES = 8;
const GFN = 0x1000;
const config: KvmConfig = {
  machine: 0,
  slot: { gfn: GFN, page: 0, count: PAGES },
  vcpus: 2,
  snapshot: '64',
  retryCheck: 'under-lock',
};
const kernelConfig = { machines: 1, pages: PAGES, frames: { ram: 12, vram: 12, slot: 0 } };

describe('memory of a guest without Xen', () => {
  it('appears on the guest’s first touch, moves without the guest knowing, and is gone after munmap', () => {
    const kernel = new Kernel(kernelConfig, null, config);
    const { mm, kvm } = kernel;
    mmapPages(mm, { kind: 'vram', start: 0, end: PAGES, writable: true });
    expect(kvm.access(0, GFN + 3, true, 42)).toBe(0);
    const before = kvm.stage2.frameOf(3);
    expect(migratePage(mm, 3, 'ram')).toBe(0);
    expect(kvm.stage2.frameOf(3)).toBe(-1);
    expect([kvm.access(1, GFN + 3, false), kvm.stage2.tag]).toEqual([0, 42]);
    expect(kvm.stage2.frameOf(3)).not.toBe(before);
    expect(kvm.faults).toBe(2);
    expect(munmap(mm, 0)).toBe(0);
    expect(kvm.access(0, GFN + 3, false)).toBe(-errno.EFAULT);
    expect([kernel.violated, checkMm(mm)]).toEqual([[], []]);
  });

  it('a guest frame outside the slot is an exit to user space', () => {
    const { kvm } = new Kernel(kernelConfig, null, config);
    expect([kvm.access(0, GFN - 1, false), kvm.access(0, GFN + PAGES, false)]).toEqual([-errno.EFAULT, -errno.EFAULT]);
  });

  it('a file’s page is mapped read-only until it is written', () => {
    const { mm, kvm } = new Kernel(kernelConfig, null, config);
    mmapPages(mm, { kind: 'file', start: 0, end: PAGES, writable: true });
    kvm.access(0, GFN, false);
    expect(kvm.stage2.list()[0]?.writable).toBe(false);
    kvm.access(0, GFN, true, 7);
    expect(kvm.stage2.list()[0]?.writable).toBe(true);
    expect(swapOut(mm, 0)).toBe(0);
    expect([mm.pageTable.stored(0), kvm.stage2.list()]).toEqual([7, []]);
  });
});

describe('the invalidation sequence of a machine that has lived long', () => {
  const near = (lo: number, hi: number): Sequence => ({ lo: (lo - 2) >>> 0, hi });
  for (const [name, first] of [
    ['2^31', near(2 ** 31, 0)],
    ['2^32', near(0, 0)],
    ['2^53', near(0, 2 ** 21 - 1)],
    ['2^63', near(0, 2 ** 31 - 1)],
    ['2^64', near(0, 2 ** 32 - 1)],
  ] as const) {
    for (const snapshot of ['64', 'int32'] as const) {
      // From 2^31 on a signed 32-bit copy is another number (below 2^32 by its sign, above by what is missing), until the last
      // 2^31 before the wrap, which sign extension happens to restore.
      const stuck = snapshot === 'int32' && name !== '2^64';
      it(`${stuck ? 'stops every fault' : 'is of no matter'} near ${name} with a ${snapshot}-bit snapshot`, () => {
        const kernel = new Kernel(kernelConfig);
        const { mm } = kernel;
        const kvm = new KvmMachine(mm, createKvm({ ...config, snapshot }, first), { ...config, snapshot });
        mmapPages(mm, { kind: 'ram', start: 0, end: PAGES, writable: true });
        const results = Array.from({ length: 8 }, (_, i) => {
          const rc = kvm.access(0, GFN + i, true, i);
          migratePage(mm, i, 'ram');
          swapOut(mm, (i + 1) % PAGES);
          return rc;
        });
        expect(results.some((rc) => rc === -errno.EAGAIN)).toBe(stuck);
        expect(kernel.violated).toEqual(stuck ? ['faultMakesProgress'] : []);
      });
    }
  }
});

describe('vCPUs that touch memory while the kernel moves it', () => {
  async function race(
    retryCheck: KvmConfig['retryCheck'],
    kind: VmaKind,
    enough: (kernel: Kernel) => boolean,
    ms: number,
  ): Promise<Kernel> {
    const tasks = ['main', 'vcpu', 'vcpu', 'churn', 'churn'];
    const kernel = new Kernel({ ...kernelConfig, tasks }, null, { ...config, retryCheck });
    mmapPages(kernel.mm, { kind, start: 0, end: PAGES, writable: true });
    const churn = kind === 'file' ? 'file-churn' : 'churn';
    for (const [i, role] of (['vcpu', 'vcpu', churn, churn] as const).entries()) {
      await kernel.start({ task: i + 1, role, first: 0, count: PAGES, seed: 31 + i });
    }
    await kernel.runUntil(() => enough(kernel), ms);
    await kernel.stop();
    expect(kernel.mm.panicCell.message()).toBeNull();
    return kernel;
  }

  for (const kind of ['ram', 'file'] as const) {
    it(`never reach a page that was taken away (${kind})`, async () => {
      const kernel = await race('under-lock', kind, ({ rounds }) => rounds > 20_000, 20_000);
      expect(kernel.rounds).toBeGreaterThan(1000);
      expect(kernel.violated).toEqual([]);
      expect(checkMm(kernel.mm)).toEqual([]);
    });
  }

  it('reach a page that was taken away when the fault does not look whether to retry', async () => {
    const harmed = (kernel: Kernel): boolean => kernel.violations('noAccessAfterInvalidate') > 0;
    const kernel = await race('missing', 'ram', harmed, 50_000);
    expect(kernel.violations('noMappingWithStaleSequence')).toBeGreaterThan(0);
    expect(kernel.violations('noAccessAfterInvalidate')).toBeGreaterThan(0);
  });
});
