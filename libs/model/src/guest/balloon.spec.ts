import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PlainHypervisor } from '../../test-support/plain-hypervisor.ts';
import { Balloon } from './balloon.ts';
import { createGuestMemory, GuestMemory, pageState } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import { type BalloonSpec, defaultBalloon, type GuestSink } from './guest-spec.ts';

const PAGES = 64 * 256;
const silent: GuestSink = { event: () => {} };

function setUp(spec: Partial<BalloonSpec> = {}, control = true, staticMaxKb: number | null = null) {
  const ranges = [{ start: 0, end: PAGES }];
  const all = { ...defaultBalloon, ...spec };
  const memory = new GuestMemory(
    createGuestMemory({
      ranges,
      taken: [],
      vcpus: 1,
      seed: 7,
      unitPages: all.order === '2m' ? 512 : 1,
      allocation: 'scattered',
      hotplugPages: all.hotplugMb * 256,
    }),
    0,
  );
  const port = new PlainHypervisor(ranges);
  const balloon = new Balloon({ memory, port, sink: silent, spec: all, control, staticMaxKb: () => staticMaxKb });
  return { memory, port, balloon };
}

/** Runs the thread at its own wake times; answers the times at which it called the hypervisor. */
function attempts(balloon: Balloon, port: PlainHypervisor, until: number): number[] {
  const times: number[] = [];
  let now = 0;
  while (now <= until) {
    const before = port.log.length;
    const next = balloon.step(now);
    if (port.log.length > before) times.push(now / 1000);
    now = Math.max(next, now + 1);
  }
  return times;
}

describe('the balloon thread', () => {
  it('tries a failing populate at 0, 2, 6 and 14 s and is then silent for an hour', () => {
    const { balloon, port } = setUp();
    balloon.onTarget((PAGES - 100) * 4);
    let now = 0;
    while (balloon.credit !== 0) now = balloon.step(now);
    port.log.length = 0;
    port.budget = 0;
    balloon.onTarget(PAGES * 4);
    expect(attempts(balloon, port, 60_000)).toEqual([0, 2, 6, 14]);
    expect(balloon.state).toBe('ecanceled');
    expect(balloon.step(60_000)).toBe(3_614_000);
  });

  it('never gives up without a retry limit, and then tries every 32 s', () => {
    const { balloon, port } = setUp({ maxRetryCount: 0 });
    balloon.onTarget((PAGES - 100) * 4);
    while (balloon.credit !== 0) balloon.step(0);
    port.log.length = 0;
    port.budget = 0;
    balloon.onTarget(PAGES * 4);
    expect(attempts(balloon, port, 130_000)).toEqual([0, 2, 6, 14, 30, 62, 94, 126]);
  });

  it('wakes from ECANCELED when a new target changes its credit', () => {
    const { balloon, port } = setUp();
    balloon.onTarget((PAGES - 100) * 4);
    while (balloon.credit !== 0) balloon.step(0);
    port.budget = 0;
    balloon.onTarget(PAGES * 4);
    attempts(balloon, port, 20_000);
    expect(balloon.state).toBe('ecanceled');
    port.budget = 1000;
    balloon.onTarget((PAGES - 40) * 4);
    balloon.step(30_000);
    expect(balloon.credit).toBe(0);
    expect(balloon.state).toBe('done');
  });

  it('gives up at most 512 single pages a call, each from where the allocator has it', () => {
    const { balloon, port, memory } = setUp();
    balloon.onTarget((PAGES - 2000) * 4);
    while (balloon.credit !== 0) balloon.step(0);
    const calls = port.calls('decrease_reservation');
    expect(calls.map((c) => ('frames' in c.extents ? c.extents.frames.length : 0))).toEqual([512, 512, 512, 464]);
    expect(calls.every((c) => c.order === 0)).toBe(true);
    const blocks = new Set(memory.peekBallooned(2000).map((g) => Math.floor(g / 512)));
    expect(blocks.size).toBe(PAGES / 512);
  });

  it('with the 2M policy gives up whole aligned runs by order 9 and leaves the others whole', () => {
    const { balloon, port, memory } = setUp({ order: '2m' });
    balloon.onTarget((PAGES - 2000) * 4);
    while (balloon.credit !== 0) balloon.step(0);
    const calls = port.calls('decrease_reservation');
    expect(calls.every((c) => c.order === 9)).toBe(true);
    expect(memory.record.currentPages).toBe(PAGES - 3 * 512);
    expect(memory.peekBallooned(9).every((g) => g % 512 === 0)).toBe(true);
  });

  it('brings back the most recently ballooned pages first, only as many as were populated', () => {
    const { balloon, port, memory } = setUp();
    balloon.onTarget((PAGES - 300) * 4);
    while (balloon.credit !== 0) balloon.step(0);
    const listed = memory.peekBallooned(300);
    port.budget = 120;
    balloon.onTarget(PAGES * 4);
    balloon.step(0);
    expect(memory.record.currentPages).toBe(PAGES - 180);
    expect(listed.slice(0, 120).every((g) => memory.stateOf(g) === pageState.free)).toBe(true);
    expect(memory.peekBallooned(1)).toEqual([listed[120]]);
  });

  it('panics the guest when the hypervisor takes fewer pages than it was given', () => {
    const { balloon, port } = setUp();
    port.decreaseShort = 1;
    balloon.onTarget((PAGES - 10) * 4);
    expect(() => balloon.step(0)).toThrow(GuestPanic);
  });

  it('keeps its reserve: a target it cannot reach ends in ECANCELED, not in no memory', () => {
    const { balloon, memory, port } = setUp();
    balloon.onTarget(0);
    attempts(balloon, port, 60_000);
    expect(balloon.state).toBe('ecanceled');
    expect(memory.record.freePages).toBe(memory.reservePages);
  });

  it('subtracts from an HVM target what the kernel never saw of static-max', () => {
    const { balloon, memory } = setUp({}, false, (PAGES + 2048) * 4);
    balloon.onTarget((PAGES - 1000) * 4);
    expect(memory.record.targetPages).toBe(PAGES - 1000 - 2048);
    const dom0 = setUp({}, true, (PAGES + 2048) * 4);
    dom0.balloon.onTarget((PAGES - 1000) * 4);
    expect(dom0.memory.record.targetPages).toBe(PAGES - 1000);
  });

  it('waits for hot-added memory for a second, then populates it', () => {
    const { balloon, memory, port } = setUp({ hotplugMb: 256 });
    port.budget = 10_000;
    balloon.onTarget((PAGES + 1000) * 4);
    expect(balloon.step(0)).toBe(1000);
    expect(balloon.state).toBe('wait');
    for (let now = 1000; balloon.credit !== 0; now = balloon.step(now)) expect(now).toBeLessThan(2000);
    expect(memory.record.currentPages).toBe(PAGES + 1000);
    expect(memory.record.ramPages).toBe(PAGES + 32_768);
  });

  it('without hotplug settles for what there is', () => {
    const { balloon, memory } = setUp();
    balloon.onTarget((PAGES + 1000) * 4);
    balloon.step(0);
    expect(balloon.state).toBe('ecanceled');
    expect(memory.record.targetPages).toBe(PAGES);
  });

  it('panics 180 s after initial ballooning stopped getting anywhere', () => {
    const { balloon } = setUp();
    balloon.onTarget(0);
    let now = 0;
    const boot = (): void => {
      while (now < 400_000) {
        balloon.step(now);
        if (balloon.bootFinished(now)) return;
        now += Balloon.bootPollMs;
      }
    };
    expect(boot).toThrow('Initial ballooning failed!');
    expect(now).toBeGreaterThanOrEqual(180_000);
    expect(now).toBeLessThan(200_000);
  });

  it('lends slots from its list or by giving up RAM, and refills them when they come back', () => {
    const { balloon, memory, port } = setUp();
    balloon.step(0);
    const slots = balloon.takeSlots(64);
    expect(slots).toHaveLength(64);
    expect(memory.record.currentPages).toBe(PAGES - 64);
    expect(balloon.step(0)).toBe(3_600_000);
    balloon.returnSlots(slots);
    balloon.step(1);
    expect(memory.record.currentPages).toBe(PAGES);
    expect(port.calls('populate_physmap')).toHaveLength(1);
  });

  it('always agrees with the hypervisor about which pages have frames (property)', () => {
    const targets = fc.array(fc.tuple(fc.nat(PAGES), fc.nat(600)), { maxLength: 12 });
    fc.assert(
      fc.property(targets, fc.boolean(), (steps, whole) => {
        const { balloon, memory, port } = setUp({ order: whole ? '2m' : '4k' });
        let now = 0;
        for (const [pages, budget] of steps) {
          port.budget = Math.min(port.budget, budget * 8);
          balloon.onTarget(pages * 4);
          for (let i = 0; i < 40; i++) {
            const next = balloon.step(now);
            if (next > now + 40_000) break;
            now = next;
          }
          expect(port.tags.size).toBe(memory.record.currentPages);
          for (const first of memory.peekBallooned(1e9)) expect(port.tags.has(first)).toBe(false);
        }
      }),
      { numRuns: 12 },
    );
  });
});
