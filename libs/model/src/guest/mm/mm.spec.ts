import { describe, expect, it } from 'vitest';
import { Kernel } from '../../../test-support/mm-fixture.ts';
import { errno } from '../../hypercall/errno.ts';
import { cpuAccess, handleFault } from './faults.ts';
import { getUserPages, putUserPages } from './gup.ts';
import { rangeOf } from './invalidation.ts';
import { migratePage } from './migration.ts';
import type { Mm } from './mm.ts';
import { checkMm } from './mm-invariants.ts';
import { reclaim, swapOut, writeBack } from './reclaim.ts';
import { mmapPages, munmap, oomReap, truncate } from './unmap.ts';
import { userptrDefaults } from './userptr-state.ts';
import type { VmaKind } from './vma.ts';

const PAGES = 8;

function kernelWith(kind: VmaKind, frames = { ram: 8, vram: 8, slot: 0 }): Mm {
  const { mm } = new Kernel({ frames, pages: 32 });
  mmapPages(mm, { kind, start: 0, end: PAGES, writable: true });
  return mm;
}
const fill = (mm: Mm): void => {
  for (let page = 0; page < PAGES; page++) expect(cpuAccess(mm, page, page + 100).rc).toBe(0);
};
const contents = (mm: Mm): number[] => Array.from({ length: PAGES }, (_, page) => cpuAccess(mm, page).tag);
const FILLED = Array.from({ length: PAGES }, (_, page) => page + 100);

describe('a process’s memory', () => {
  it('keeps its content through migration, swap and back, and all its frames are free after munmap', () => {
    const mm = kernelWith('ram');
    fill(mm);
    for (let page = 0; page < PAGES; page++) expect(migratePage(mm, page, 'vram')).toBe(0);
    expect([mm.frames.free('ram'), mm.frames.free('vram')]).toEqual([8, 0]);
    // Device-private pages come back when the CPU touches them.
    expect(contents(mm)).toEqual(FILLED);
    expect([mm.frames.free('ram'), mm.frames.free('vram')]).toEqual([0, 8]);
    for (let page = 0; page < PAGES; page++) expect(swapOut(mm, page)).toBe(0);
    expect(contents(mm)).toEqual(FILLED);
    expect(checkMm(mm)).toEqual([]);
    expect(munmap(mm, 0)).toBe(0);
    expect(mm.frames.free('ram')).toBe(8);
    expect(cpuAccess(mm, 0).rc).toBe(-errno.EFAULT);
  });

  it('is bigger than RAM: a fault reclaims', () => {
    const mm = kernelWith('ram', { ram: 3, vram: 0, slot: 0 });
    fill(mm);
    expect(contents(mm)).toEqual(FILLED);
    expect(checkMm(mm)).toEqual([]);
  });

  it('a buffer object goes to the GPU’s memory first, and the CPU reaches it there', () => {
    const mm = kernelWith('vram');
    fill(mm);
    expect(mm.frames.free('vram')).toBe(0);
    for (let page = 0; page < 4; page++) expect(migratePage(mm, page, 'ram')).toBe(0);
    expect(contents(mm)).toEqual(FILLED);
    expect([mm.frames.free('ram'), mm.frames.free('vram')]).toEqual([4, 4]);
  });

  it('a file: written back and dropped it is read again; truncated it is a bus error, and empty when it grows', () => {
    const mm = kernelWith('file');
    fill(mm);
    expect(writeBack(mm, 0, PAGES)).toBe(PAGES);
    expect(writeBack(mm, 0, PAGES)).toBe(0);
    for (let page = 0; page < PAGES; page++) expect(swapOut(mm, page)).toBe(0);
    expect(contents(mm)).toEqual(FILLED);
    expect(truncate(mm, 0, 4)).toBe(0);
    expect(cpuAccess(mm, 4).rc).toBe(-errno.EFAULT);
    expect(truncate(mm, 0, PAGES)).toBe(0);
    expect(contents(mm)).toEqual([...FILLED.slice(0, 4), 0, 0, 0, 0]);
    expect(checkMm(mm)).toEqual([]);
  });

  it('an area that overlaps another, or an unknown one, is refused', () => {
    const mm = kernelWith('ram');
    expect(mmapPages(mm, { kind: 'ram', start: 7, end: 9, writable: true })).toBe(-errno.ENOMEM);
    expect([munmap(mm, 1), truncate(mm, 0, 2), handleFault(mm, 9, false)]).toEqual([
      -errno.EINVAL,
      -errno.EINVAL,
      -errno.EFAULT,
    ]);
  });
});

describe('pin_user_pages', () => {
  const pinned = { write: true, pin: true, longterm: true };

  it('a pinned page neither moves nor is swapped nor reclaimed, until it is unpinned', () => {
    const mm = kernelWith('ram', { ram: 12, vram: 8, slot: 0 });
    fill(mm);
    const { rc, frames } = getUserPages(mm, 0, PAGES, pinned);
    expect([rc, frames.length]).toEqual([0, PAGES]);
    expect([migratePage(mm, 0, 'ram'), swapOut(mm, 0)]).toEqual([-errno.EAGAIN, -errno.EAGAIN]);
    while (mm.frames.alloc('ram') >= 0);
    expect(reclaim(mm, 0)).toBe(false);
    putUserPages(mm, frames, true, true);
    expect(swapOut(mm, 0)).toBe(0);
  });

  it('memory that was in the GPU is brought to RAM first', () => {
    const mm = kernelWith('ram');
    fill(mm);
    migratePage(mm, 0, 'vram');
    const { frames } = getUserPages(mm, 0, 1, pinned);
    expect(frames.map((frame) => mm.frames.poolOf(frame))).toEqual(['ram']);
    putUserPages(mm, frames, true, false);
  });

  it('VRAM has no page to pin, and a long pin of a file for writing is refused; nothing is left pinned', () => {
    expect(getUserPages(kernelWith('vram'), 0, 1, { write: false, pin: false }).rc).toBe(-errno.EFAULT);
    const mm = kernelWith('file');
    expect(getUserPages(mm, 0, 4, pinned).rc).toBe(-errno.EFAULT);
    expect(getUserPages(mm, PAGES - 1, 2, { write: true, pin: true }).rc).toBe(-errno.EFAULT);
    expect(swapOut(mm, PAGES - 1)).toBe(0);
  });
});

describe('the OOM reaper', () => {
  function busyGpu(tasks: readonly string[] = ['main']): Kernel {
    const kernel = new Kernel({ drivers: ['i915'], pages: PAGES, tasks }, { ...userptrDefaults, engine: 0 });
    mmapPages(kernel.mm, { kind: 'ram', start: 0, end: PAGES, writable: true });
    expect(kernel.userptr.create(0, PAGES, true)).toBe(0);
    return kernel;
  }

  it('takes a dying task’s memory at once where no GPU is busy with it', () => {
    const { mm } = busyGpu();
    for (let page = 0; page < PAGES; page++) cpuAccess(mm, page, 1);
    expect(oomReap(mm)).toBe(0);
    expect(mm.frames.free('ram')).toBe(64);
  });

  it('is told -EAGAIN while a job runs or the driver is locked, and then nothing was torn down', () => {
    const kernel = busyGpu();
    const { mm, userptr } = kernel;
    expect(userptr.submit(0, true, 5)).toBeGreaterThan(0);
    const lock = mm.driverLock(0);
    lock.lock();
    expect(oomReap(mm)).toBe(-errno.EAGAIN);
    lock.unlock();
    expect(oomReap(mm)).toBe(-errno.EAGAIN);
    expect(userptr.table.list()).toHaveLength(PAGES);
    expect(mm.frames.free('ram')).toBe(64 - PAGES);
    expect([checkMm(mm), kernel.violated]).toEqual([[], []]);
  });

  it('does not wait for mmap_lock', () => {
    const { mm } = busyGpu();
    mm.mmap.writeLock();
    expect(oomReap(mm)).toBe(-errno.EAGAIN);
    mm.mmap.writeUnlock();
  });

  it('a callback that sleeps though it may not breaks nonBlockableNeverSleeps', () => {
    const kernel = busyGpu();
    const { mm } = kernel;
    mm.notifiers.registerRange({
      name: 'careless',
      start: () => {
        mm.fences.signal(mm.fences.create(0));
        const fence = mm.fences.create(0);
        // It is never signalled; the circle ends the wait.
        expect(() => mm.fences.wait(fence)).toThrow('is to be signalled by main');
        return 0;
      },
    });
    mm.notifiers.start(rangeOf(0, 1, 'unmap', false));
    expect(kernel.violated).toEqual(['noWaitCycle', 'nonBlockableNeverSleeps']);
  });
});
