import { describe, expect, it } from 'vitest';
import { DirectPort } from '../../../test-support/direct-port.ts';
import {
  bootGranting,
  FIRST_REF,
  type Granting,
  TABLE_GFN,
  tagsOf,
  writeEntry,
} from '../../../test-support/grant-fixture.ts';
import { expectSound } from '../../../test-support/hypercall-fixture.ts';
import type { Violation } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { cpuAccess } from './faults.ts';
import { Gntdev, type GntdevConfig } from './gntdev.ts';
import { gntdevBytes } from './gntdev-state.ts';
import { GpuEngine } from './gpu-engine.ts';
import { GrantFrontend } from './grant-frontend.ts';
import { getUserPages, putUserPages } from './gup.ts';
import { rangeOf } from './invalidation.ts';
import { Mm } from './mm.ts';
import { createMm, defaultMm } from './mm-config.ts';
import { checkMm } from './mm-invariants.ts';
import { munmap } from './unmap.ts';
import { Userptr } from './userptr.ts';
import { userptrBytes, userptrDefaults } from './userptr-state.ts';
import { XenMemory } from './xen-memory.ts';

const FRAMES = { ram: 4, vram: 0, slot: 8 };
const BASES = { ram: 16, vram: 0, slot: 0x4000 };
const PAGES = 4;
const AT = 8;
const GRANTED_GFN = 5;

interface Bench extends Granting {
  readonly mm: Mm;
  readonly gntdev: Gntdev;
  readonly userptr: Userptr;
  readonly violations: Violation[];
  readonly map: number;
}

/** A backend's kernel with gntdev and a GPU driver; four pages of a frontend, granted and mapped into a process. */
function mapped(unmap: GntdevConfig['unmap']): Bench {
  const granting = bootGranting();
  const { bed, front, back } = granting;
  for (let i = 0; i < PAGES; i++) writeEntry(bed, front, { ref: FIRST_REF + i, to: back, gfn: GRANTED_GFN + i });
  const violations: Violation[] = [];
  const port = new DirectPort(bed.h, back);
  const memory = new XenMemory(port, BASES, FRAMES);
  const config = { ...defaultMm, tasks: ['Xorg'], pages: 32, frames: FRAMES, drivers: ['gntdev', 'i915'] };
  const mm = new Mm(createMm(config), 0, { violation: (v) => violations.push(v) }, memory);
  const gntdev = new Gntdev(mm, new SharedArrayBuffer(gntdevBytes()), port, memory, { driver: 0, unmap });
  const gpu = { ...userptrDefaults, driver: 1, engine: 0, pages: 'gup' as const, pagesPerBuffer: PAGES };
  const userptr = new Userptr(mm, new SharedArrayBuffer(userptrBytes(gpu)), gpu);
  const map = gntdev.addMap(
    front.domid,
    Array.from({ length: PAGES }, (_, i) => FIRST_REF + i),
  );
  expect(gntdev.mmap(map, AT)).toBe(0);
  return { ...granting, mm, gntdev, userptr, violations, map };
}

/** The GPU has worked on the granted pages, and its driver keeps references for the next time. */
function useGpu({ mm, userptr }: Bench): void {
  expect(userptr.create(AT, PAGES, true)).toBe(0);
  expect(userptr.submit(0, true, 700)).toBeGreaterThan(0);
  expect(new GpuEngine(mm, userptr).runJob()).toBe(true);
}

describe('grants in a process’s memory', () => {
  for (const unmap of ['synchronous', 'asynchronous'] as const) {
    it(`show the other domain’s pages, and are given back after munmap (${unmap})`, () => {
      const bench = mapped(unmap);
      const { mm, gntdev, bed, front, map } = bench;
      expect(cpuAccess(mm, AT).tag).toBe(GRANTED_GFN + 1);
      cpuAccess(mm, AT + 1, 4711);
      expect(tagsOf(bed, front, GRANTED_GFN + 1)).toEqual([4711]);
      expectSound(bed);
      expect(checkMm(mm)).toEqual([]);
      expect(munmap(mm, AT)).toBe(0);
      gntdev.close(map);
      expect(gntdev.runWork(0)).toBe(Number.POSITIVE_INFINITY);
      expect([mm.frames.free('slot'), gntdev.state.maps()]).toEqual([8, []]);
      const frontend = new GrantFrontend(new DirectPort(bed.h, front), mm.platform, TABLE_GFN, 'defer');
      expect(frontend.endAccess(FIRST_REF, GRANTED_GFN)).toBe(true);
      expectSound(bed);
    });
  }

  it('what the other domain does not grant is -EINVAL, and nothing stays mapped', () => {
    const { mm, gntdev, bed, front } = mapped('asynchronous');
    const map = gntdev.addMap(front.domid, [FIRST_REF, FIRST_REF + PAGES]);
    expect(gntdev.mmap(map, 0)).toBe(-errno.EINVAL);
    expect([mm.frames.free('slot'), gntdev.state.get(map, 'live')]).toEqual([8 - PAGES, 0]);
    expectSound(bed);
  });

  it('a range that is not blockable is refused', () => {
    const { mm, map, gntdev } = mapped('asynchronous');
    expect(mm.notifiers.start(rangeOf(AT, AT + 1, 'unmap', false))).toBe(-errno.EAGAIN);
    expect(gntdev.state.get(map, 'live')).toBe(PAGES);
  });
});

describe('grants that a GPU has references to', () => {
  it('the synchronous callback and the GPU driver’s wait for each other: a circle with all its edges, not a hang', () => {
    const bench = mapped('synchronous');
    useGpu(bench);
    expect(() => munmap(bench.mm, AT)).toThrow(/hung tasks, a circle of 3 edges/);
    expect(bench.violations.map(({ invariant }) => invariant)).toEqual(['noWaitCycle']);
    const text = bench.violations[0]?.text ?? '';
    expect(text).toMatch(/Xorg \(cpu0\) waits for the other references to frame \d+/);
    expect(text).toMatch(/the other references to frame \d+ are held by userptr buffer 0/);
    expect(text).toContain('userptr buffer 0 lets go when its callback is called by Xorg (cpu0)');
  });

  it('the asynchronous one returns, and the worker gives them back when the GPU driver has let go', () => {
    const bench = mapped('asynchronous');
    const { mm, gntdev, map } = bench;
    useGpu(bench);
    expect(munmap(mm, AT)).toBe(0);
    expect(gntdev.state.get(map, 'live')).toBe(PAGES);
    expect(gntdev.runWork(0)).toBe(Number.POSITIVE_INFINITY);
    expect([gntdev.state.get(map, 'live'), mm.frames.free('slot'), bench.violations]).toEqual([0, 8, []]);
    expectSound(bench.bed);
  });
});

describe('after munmap has returned', () => {
  /** Direct I/O keeps a reference to the first page; the process unmaps. */
  function stillReferred(): Bench & { readonly letGo: () => void } {
    const bench = mapped('asynchronous');
    const { frames } = getUserPages(bench.mm, AT, 1, { write: true, pin: true });
    expect(munmap(bench.mm, AT)).toBe(0);
    return { ...bench, letGo: () => putUserPages(bench.mm, frames, true, true) };
  }

  it('grants stay mapped for as long as somebody refers to a page; the worker comes back later and later', () => {
    const { gntdev, letGo, map, mm } = stillReferred();
    let now = 0;
    const gaps = Array.from({ length: 4 }, () => {
      const next = gntdev.runWork(now);
      const gap = next - now;
      now = next;
      return gap;
    });
    expect(gaps).toEqual([5, 10, 15, 20]);
    expect(gntdev.runWork(now - 1)).toBe(now);
    // A map with live grants cannot be mapped again.
    expect(gntdev.mmap(map, 0)).toBe(-errno.EAGAIN);
    letGo();
    expect(gntdev.runWork(now)).toBe(Number.POSITIVE_INFINITY);
    expect(mm.frames.free('slot')).toBe(8);
    expect(gntdev.mmap(map, 0)).toBe(0);
  });

  for (const busy of ['defer', 'ignore'] as const) {
    it(`the frontend finds its grants in use: ${busy === 'defer' ? 'it asks again until they are not' : 'if it frees its page all the same, that page is still written'}`, () => {
      const { bed, front, mm, violations, gntdev, letGo } = stillReferred();
      const frontend = new GrantFrontend(new DirectPort(bed.h, front), mm.platform, TABLE_GFN, busy);
      expect(frontend.endAccess(FIRST_REF, GRANTED_GFN)).toBe(busy === 'ignore');
      expect(violations.map(({ invariant }) => invariant)).toEqual(
        busy === 'ignore' ? ['noGrantedPageFreedWhileMapped'] : [],
      );
      expect(frontend.retry()).toBe(busy === 'ignore' ? 0 : 1);
      letGo();
      gntdev.runWork(0);
      expect([frontend.retry(), frontend.freed]).toEqual([0, [GRANTED_GFN]]);
      expectSound(bed);
    });
  }
});
