import { describe, expect, it } from 'vitest';
import { type Device, startDevice } from '../../test-support/dma-fixture.ts';
import { bootWithDom0, GPU, ioDomain, NIC, ownFrames, policies } from '../../test-support/iommu-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO, type Mfn } from '../frames/addresses.ts';
import { dmaCpu, type Host } from '../host.ts';
import type { ModelPolicies } from '../host-config.ts';
import { assignDevice, deassignDevice } from './assign.ts';
import { IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap, runQueuedFrees } from './iommu.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
const BASE = 0x1000;
const TARGET = 100;

interface Race {
  readonly h: Host;
  readonly d: Domain;
  readonly devices: readonly Device[];
}

/** d1 with two devices on two DMA threads; 1024 frames, each holding its own dfn as tag. */
async function race(
  some: Partial<ModelPolicies>,
  kind: 'r' | 'w',
  first: number,
  count: number,
  except = -1,
): Promise<Race> {
  const { h } = bootWithDom0({ policies: policies(some), dmaThreads: 2 });
  const d = ioDomain(h, 1);
  ownFrames(h, d, BASE, 1024);
  for (let i = 0; i < 1024; i++) h.frames.tag[BASE + i] = i;
  expect(assignDevice(h, d, GPU, 0)).toBe(0);
  expect(assignDevice(h, d, NIC, 0)).toBe(0);
  iommuLegacyMap(h, d, 0, BASE, 1024, RW);
  const devices = await Promise.all(
    [GPU, NIC].map((sbdf, thread) =>
      startDevice({
        shared: h.shared,
        cpu: dmaCpu(h.config, thread),
        thread,
        sbdf,
        first,
        count,
        except,
        kind,
        tagOffset: 0,
        seed: 1234 + thread,
      }),
    ),
  );
  return { h, d, devices };
}

const sum = (devices: readonly Device[], word: Parameters<Device['read']>[0]): number =>
  devices.reduce((total, device) => total + device.read(word), 0);

/** Gives up one page of a superpage and takes it back, over and over, until `enough`. Answers the rounds. */
function shatterUntil({ h, d }: Race, enough: () => boolean, limit: number): number {
  let rounds = 0;
  while (rounds < limit && !enough()) {
    expect(iommuLegacyUnmap(h, d, TARGET, 1)).toBe(0);
    expect(iommuLegacyMap(h, d, TARGET, BASE + TARGET, 1, RW)).toBe(0);
    runQueuedFrees(h);
    rounds++;
  }
  return rounds;
}

describe('DMA beside a superpage that is split and re-formed', () => {
  it('never faults and always reaches its frame when the split is atomic (20000 transactions and 200 splits at least)', async () => {
    const all = await race({}, 'r', 0, 512, TARGET);
    const { h, devices } = all;
    const rounds = shatterUntil(
      all,
      () => sum(devices, 'transactions') >= 20_000 && h.counters.read('iommu.ptShatters') >= 200,
      1e6,
    );
    await Promise.all(devices.map((device) => device.stop()));
    expect(sum(devices, 'transactions')).toBeGreaterThanOrEqual(20_000);
    expect(rounds).toBeGreaterThanOrEqual(200);
    expect(h.counters.read('iommu.ptCoalesces')).toBe(rounds);
    expect([sum(devices, 'faults'), sum(devices, 'wrongFrame')]).toEqual([0, 0]);
    expect(h.panicCell.message()).toBeNull();
  }, 60_000);

  for (const shatter of ['naive', 'break-before-make'] as const) {
    it(`faults on pages nobody gave up when the split is ${shatter}`, async () => {
      const all = await race({ shatter }, 'r', 0, 512, TARGET);
      const rounds = shatterUntil(all, () => sum(all.devices, 'faults') > 0, 200_000);
      await Promise.all(all.devices.map((device) => device.stop()));
      expect(sum(all.devices, 'faults'), `after ${rounds} rounds`).toBeGreaterThan(0);
      expect(sum(all.devices, 'wrongFrame')).toBe(0);
    }, 60_000);
  }
});

/** Takes a page away from a device that writes it all the time, frees its frame, looks, gives it back. */
function unmapAndFree({ h, d }: Race): boolean {
  const m = (BASE + TARGET) as Mfn;
  iommuLegacyUnmap(h, d, TARGET, 1);
  h.frames.fillBlock(m, 1, -1, 0, 0);
  Atomics.store(h.frames.tag, m, 0);
  let touched = false;
  for (let i = 0; i < 2000; i++) if (Atomics.load(h.frames.tag, m) !== 0) touched = true;
  ownFrames(h, d, m, 1);
  iommuLegacyMap(h, d, TARGET, m, 1, RW);
  runQueuedFrees(h);
  return touched;
}

describe('DMA to a page that is unmapped and whose frame is freed', () => {
  it('never lands in the frame once the synchronous flush has returned', async () => {
    const all = await race({}, 'w', TARGET, 1);
    let touched = 0;
    for (let rounds = 0; rounds < 2000 || sum(all.devices, 'transactions') < 20_000; rounds++) {
      if (unmapAndFree(all)) touched++;
    }
    await Promise.all(all.devices.map((device) => device.stop()));
    expect(touched).toBe(0);
    expect([sum(all.devices, 'freed'), sum(all.devices, 'otherViolations')]).toEqual([0, 0]);
    expect(sum(all.devices, 'faults')).toBeGreaterThan(0);
  }, 60_000);

  it('lands in the freed frame when the flush is lost, and noDmaToFreedFrame says so', async () => {
    const all = await race({ iotlbFlush: 'lost' }, 'w', TARGET, 1);
    let touched = 0;
    const seen = (): boolean => touched > 0 && sum(all.devices, 'freed') > 0;
    for (let rounds = 0; rounds < 500_000 && !seen(); rounds++) if (unmapAndFree(all)) touched++;
    await Promise.all(all.devices.map((device) => device.stop()));
    expect(sum(all.devices, 'freed')).toBeGreaterThan(0);
    expect(touched).toBeGreaterThan(0);
  }, 60_000);
});

it('a device moving between dom0, a guest and quarantine finds its reserved page at every instant (XSA-400)', async () => {
  const { h } = bootWithDom0({
    policies: policies(),
    heapRanges: [{ start: 0x10, end: 0x3e00 }],
    rmrrs: [{ startPfn: 0x3f00, endPfn: 0x3f00, devices: [GPU] }],
  });
  const d = ioDomain(h, 1);
  const work = {
    shared: h.shared,
    cpu: dmaCpu(h.config, 0),
    thread: 0,
    sbdf: GPU,
    first: 0x3f00,
    count: 1,
    except: -1,
  };
  const device = await startDevice({ ...work, kind: 'w', tagOffset: 0, seed: 7 });
  for (let i = 0; i < 300 || (i < 100_000 && device.read('transactions') <= 1000); i++) {
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(deassignDevice(h, DOMID_IO, GPU)).toBe(0);
  }
  await device.stop();
  expect(device.read('transactions')).toBeGreaterThan(1000);
  expect([device.read('faults'), device.read('freed'), device.read('otherViolations')]).toEqual([0, 0, 0]);
});
