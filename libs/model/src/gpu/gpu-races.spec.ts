// The GPU, its mediator and the guest as threads of their own: what the twins show in one order of events, here in whichever order
// comes.
import { describe, expect, it } from 'vitest';
import { addVirtualGpu, bootGpuHost, gpuGuest, portOf, startPpgtt } from '../../test-support/gpu-fixture.ts';
import { type GpuThread, gpuWord, startGpuThread } from '../../test-support/gpu-race-fixture.ts';
import { expectSound, hypercall, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { dmaCpu } from '../host.ts';
import type { ModelPolicies } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { GuestGpu } from './guest-gpu.ts';
import { makePte } from './pte.ts';

const RW = 3;
const PAGES = 4;
const GFN = 20;

interface Race {
  readonly bed: Testbed;
  readonly d: Domain;
  /** On this thread, as vCPU 0; the mediator answers from its own. */
  readonly driver: GuestGpu;
  readonly engine: GpuThread;
  stop(): Promise<void>;
}

async function race(some: Partial<ModelPolicies>): Promise<Race> {
  const bed = bootGpuHost(some, { pcpus: 3, dmaThreads: 2 });
  const d = gpuGuest(bed, 128);
  const v = addVirtualGpu(bed, d);
  startPpgtt(v, [GFN, GFN + 1, GFN + 2, GFN + 3]);
  const work = { shared: bed.h.shared, domid: d.domid };
  const mediator = await startGpuThread({ ...work, role: 'mediator', cpu: 1, pages: 0 });
  const engine = await startGpuThread({ ...work, role: 'engine', cpu: dmaCpu(bed.h.config, 0), pages: PAGES });
  const stop = async (): Promise<void> => {
    await engine.stop();
    await mediator.stop();
  };
  return { bed, d, driver: new GuestGpu(bed.h, d, v.gpu, null), engine, stop };
}

/** The guest gives the page up, Xen takes it back into use, the guest gets another one there and tells its GPU. */
function balloonRound({ bed, d, driver }: Race): void {
  driver.balloonOut(portOf(bed, d), [GFN]);
  const extents = { start: GFN, count: 1 };
  hypercall(bed, d, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents });
  driver.storePte(3, 0, 0);
  driver.storePte(3, 0, makePte(GFN, RW));
  driver.submit(0);
}

describe('balloon-vs-shadow, with a GPU that never stops', () => {
  for (const mediated of ['B', 'C'] as const) {
    it(`${mediated}: no access ever lands where the guest is no more (300 rounds and 20000 accesses at least)`, async () => {
      const all = await race({ mediated });
      for (let rounds = 0; rounds < 300 || all.engine.read('accesses') < 20_000; rounds++) balloonRound(all);
      await all.stop();
      const { engine, bed } = all;
      expect([engine.read('freed'), engine.read('foreign'), engine.read('otherViolations')]).toEqual([0, 0, 0]);
      expect(engine.read('faults')).toBeLessThan(engine.read('accesses'));
      expect(bed.h.panicCell.message()).toBeNull();
      expectSound(bed);
    });
  }

  it('A: some land in a page that is free already', async () => {
    const all = await race({ mediated: 'A' });
    let rounds = 0;
    const seen = (): number => all.engine.read('freed') + all.engine.read('foreign');
    while (rounds < 100_000 && seen() === 0) {
      balloonRound(all);
      rounds++;
    }
    await all.stop();
    expect(seen(), `after ${rounds} rounds`).toBeGreaterThan(0);
  });
});

describe('a table that is written while another vCPU announces its root', () => {
  /** Rounds until the shadow misses a write; -1: it never did in so many. */
  async function missedAfter(mediator: ModelPolicies['mediator'], rounds: number): Promise<number> {
    const all = await race({ mediated: 'C', mediator, gpuShadow: 'strict' });
    const { bed, d, driver } = all;
    // A second table of the guest's: root 8, leaf table 11.
    driver.buildTable([8, 9, 10, 11], [30]);
    const roots = await startGpuThread({ shared: bed.h.shared, domid: d.domid, role: 'roots', cpu: 2, pages: 8 });
    let missed = -1;
    for (let round = 1; round <= rounds && missed < 0; round++) {
      Atomics.store(roots.words, gpuWord.wanted, round);
      Atomics.notify(roots.words, gpuWord.wanted);
      for (let i = 0; roots.read('done') < round; i++)
        driver.storePte(11, i % 64, makePte(30 + ((i + round) % 60), RW));
      // A check costs more than a round: where none is expected every fourth will do.
      if (mediator === 'right' && round % 4 !== 0) continue;
      const names = checkInvariants(bed.h).map(({ invariant }) => invariant);
      if (names.includes('shadowAgreesWithGuestTable')) missed = round;
    }
    await roots.stop();
    await all.stop();
    return missed;
  }

  it('right: no write is ever missed (200 rounds)', async () => {
    expect(await missedAfter('right', 200)).toBe(-1);
  });

  it('walk-first: a write is missed', async () => {
    expect(await missedAfter('walk-first', 5000)).toBeGreaterThan(0);
  });
});
