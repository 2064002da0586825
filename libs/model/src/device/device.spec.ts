import { describe, expect, it } from 'vitest';
import {
  bootTestbed,
  expectSound,
  hypercall,
  makeGuest,
  slice,
  type Testbed,
} from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { sbdf } from '../frames/addresses.ts';
import { dmaCpu, Host } from '../host.ts';
import { type DeviceConfig, defaultPolicies } from '../host-config.ts';
import { type DeviceCommand, XENMEMF_populate_on_demand } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { DeviceEngine, type FaultEvent } from './device-engine.ts';
import { MAX_TRANSACTIONS } from './device-queues.ts';

const gpu = sbdf(0, 0, 2, 0);
const nic = sbdf(0, 0, 3, 0);

function bed2(): { bed: Testbed; d: Domain; engine: DeviceEngine; finished: number[]; faults: FaultEvent[] } {
  const first = bootTestbed().h.config.devices[0] as DeviceConfig; // the fixture has one
  const bed = bootTestbed({ devices: [first, { ...first, sbdf: nic, name: 'nic', pciClass: 0x0200 }] });
  const d = makeGuest(bed, { iommu: true });
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: d.domid,
    order: 9,
    memFlags: 0,
    extents: { start: 0, count: 2 },
  });
  for (const device of [gpu, nic]) {
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: device, flags: 0 }).rc).toBe(0);
  }
  const finished: number[] = [];
  const faults: FaultEvent[] = [];
  const h = new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.log);
  const engine = new DeviceEngine(h, 0, {
    onDone: (_, job) => finished.push(job),
    onFault: (fault) => faults.push(fault),
  });
  return { bed, d, engine, finished, faults };
}

const write = (start: number, count: number, tag = 5, repeat = 1): DeviceCommand => ({
  kind: 'write',
  frames: { start, count },
  tag,
  repeat,
});
const submit = (bed: Testbed, d: Domain, commands: readonly DeviceCommand[], device: number = gpu) =>
  hypercall(bed, d, { op: 'device_submit', sbdf: device, commands });
const wait = (bed: Testbed, d: Domain, job: number, device: number = gpu) =>
  hypercall(bed, d, { op: 'device_wait', sbdf: device, job });

describe('device jobs', () => {
  it('write where the guest reads, from ranges and from scattered frames', () => {
    const { bed, d, engine, finished } = bed2();
    const scattered: DeviceCommand = { kind: 'write', frames: { frames: [9, 700, 11] }, tag: 8, repeat: 2 };
    const { job } = submit(bed, d, [write(100, 3), scattered]);
    expect(slice(bed, d, { op: 'device_wait', sbdf: gpu, job: job ?? 0 })).toMatchObject({
      end: 'blocked',
      on: { on: 'device', sbdf: gpu, job },
    });
    while (engine.runBurst(4));
    expect(finished).toEqual([job]);
    expect(wait(bed, d, job ?? 0)).toEqual({ rc: 0, completed: 9, faults: 0, firstFaultDfn: -1, firstFaultReason: 0 });
    const { tags } = hypercall(bed, d, { op: 'load', frames: { frames: [100, 102, 103, 700] } });
    expect(tags).toEqual([5, 5, 0, 8]);
    expectSound(bed);
  });

  it('of several devices progress together', () => {
    const { bed, d, engine } = bed2();
    const [a, b] = [submit(bed, d, [write(0, 512, 1, 8)]), submit(bed, d, [write(512, 512, 2, 8)], nic)];
    engine.runBurst(1024);
    const [x, y] = [bed.h.devices.result(0, a.job ?? 0), bed.h.devices.result(1, b.job ?? 0)];
    expect([x.completed, y.completed]).toEqual([512, 512]);
    while (engine.runBurst(1024));
    expect(wait(bed, d, b.job ?? 0, nic).completed).toBe(4096);
  });

  it('a fault is counted, printed and not replayed; after ten the device has lost the bus and the job fails', () => {
    const { bed, d, engine, faults } = bed2();
    const { job } = submit(bed, d, [write(4, 1), write(0x7d0d6, 40)]);
    while (engine.runBurst(64));
    const result = wait(bed, d, job ?? 0);
    expect(result).toEqual({ rc: -errno.EIO, completed: 1, faults: 10, firstFaultDfn: 0x7d0d6, firstFaultReason: 5 });
    expect(bed.log.lines).toContain('[VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 7d0d6000');
    expect(bed.log.lines).toContain('[VT-D]DMAR: reason 05 - PTE Write access is not set on iommu:0');
    expect(faults[0]).toMatchObject({
      dfn: 0x7d0d6,
      write: true,
      reason: 5,
      cause: { p2mType: 'mmioDm', isRam: false },
    });
    expect(hypercall(bed, d, { op: 'device_reset', sbdf: gpu }).rc).toBe(0);
    const again = submit(bed, d, [write(4, 1)]);
    while (engine.runBurst(64));
    expect(wait(bed, d, again.job ?? 0)).toMatchObject({ rc: 0, completed: 1 });
  });

  it('a reset drops what is queued and waits for the DMA thread to let go', () => {
    const { bed, d, engine } = bed2();
    const jobs = [submit(bed, d, [write(0, 512, 1, 100)]), submit(bed, d, [write(0, 1)])];
    engine.runBurst(64);
    const outcome = slice(bed, d, { op: 'device_reset', sbdf: gpu });
    expect(outcome).toMatchObject({ end: 'blocked', state: { at: jobs[1]?.job } });
    while (engine.runBurst(64));
    expect(slice(bed, d, { op: 'device_reset', sbdf: gpu }, { at: jobs[1]?.job ?? 0 })).toMatchObject({ end: 'done' });
    expect(wait(bed, d, jobs[0]?.job ?? 0)).toMatchObject({ rc: -errno.EINTR, completed: 64 });
  });

  it('refuses what is not the caller’s, malformed, too much, or more than the queue holds', () => {
    const { bed, d } = bed2();
    const other = makeGuest(bed, { iommu: true });
    expect(submit(bed, other, [write(0, 1)]).rc).toBe(-errno.EPERM);
    expect(submit(bed, d, [write(0, 1)], 0x999).rc).toBe(-errno.ENODEV);
    expect(submit(bed, d, [write(0, MAX_TRANSACTIONS, 1, 2)]).rc).toBe(-errno.E2BIG);
    expect(submit(bed, d, new Array(4097).fill(write(0, 1))).rc).toBe(-errno.E2BIG);
    expect(submit(bed, d, [write(2 ** 36, 1)]).rc).toBe(-errno.EINVAL);
    expect(submit(bed, d, [{ ...write(0, 1), tag: 0.5 }]).rc).toBe(-errno.EINVAL);
    expect(submit(bed, d, [null as unknown as DeviceCommand]).rc).toBe(-errno.EINVAL);
    expect(submit(bed, d, 3 as unknown as DeviceCommand[]).rc).toBe(-errno.EFAULT);
    expect(wait(bed, d, 1).rc).toBe(-errno.ENOENT);
    for (let i = 0; i < 64; i++) expect(submit(bed, d, [write(0, 1)]).rc).toBe(0);
    expect(submit(bed, d, [write(0, 1)]).rc).toBe(-errno.EBUSY);
    expect(hypercall(bed, other, { op: 'device_reset', sbdf: gpu }).rc).toBe(-errno.EPERM);
  });

  it('keep running through many submissions: the arena is reused and results stay right', () => {
    const { bed, d, engine } = bed2();
    for (let i = 0; i < 400; i++) {
      const frames = Float64Array.from({ length: 1000 }, (_, j) => (i + j) % 1024);
      const a = submit(bed, d, [{ kind: 'write', frames: { frames }, tag: i + 1, repeat: 1 }]);
      const b = submit(bed, d, [write(i, 2, -1 - i)]);
      engine.runBurst(700);
      while (engine.runBurst(700));
      expect([wait(bed, d, a.job ?? 0).completed, wait(bed, d, b.job ?? 0).completed]).toEqual([1000, 2]);
      expect(hypercall(bed, d, { op: 'load', frames: { start: i, count: 1 } }).tags).toEqual([-1 - i]);
    }
  });

  it('outlives its domain only as faults: the device is in quarantine when its RAM is freed', () => {
    const { bed, d, engine, faults } = bed2();
    submit(bed, d, [write(0, 512, 1, 100)]);
    engine.runBurst(64);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
    while (engine.runBurst(64));
    expect(bed.log.violations).toEqual([]);
    expect(faults[0]).toMatchObject({ reason: 2 });
    expectSound(bed);
  });

  it('that meet a PoD page fault until a CPU has touched it, with shared tables and with separate ones (seed story)', () => {
    for (const iommuTables of ['shared', 'separate'] as const) {
      const bed = bootTestbed({ policies: { ...defaultPolicies, podWithPassthrough: 'allow', iommuTables } });
      const d = makeGuest(bed, { iommu: true });
      const { domid } = d;
      hypercall(bed, bed.dom0, { op: 'set_pod_target', domid, targetPages: 1024 });
      const extents = { start: 0, count: 4 };
      const memFlags = XENMEMF_populate_on_demand;
      hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 9, memFlags, extents });
      expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: gpu, flags: 0 }).rc).toBe(0);
      const faults: FaultEvent[] = [];
      const h = new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.log);
      const engine = new DeviceEngine(h, 0, { onFault: (fault) => faults.push(fault) });
      const before = submit(bed, d, [write(700, 1)]);
      while (engine.runBurst(64));
      expect(wait(bed, d, before.job ?? 0)).toMatchObject({ faults: 1, firstFaultDfn: 700, firstFaultReason: 5 });
      expect(faults[0]?.cause).toMatchObject({ p2mType: 'populateOnDemand', iommuEntry: 'absent' });
      hypercall(bed, d, { op: 'touch', frames: { start: 700, count: 1 } });
      const after = submit(bed, d, [write(700, 1)]);
      while (engine.runBurst(64));
      expect(wait(bed, d, after.job ?? 0)).toMatchObject({ completed: 1, faults: 0 });
      expectSound(bed);
    }
  });
});
