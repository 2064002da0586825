// A controller's driver on a real host: a guest with firmware's memory, one whose RAM lies over it, two that share it.
import { describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { firmwareTag } from '../boot/firmware-memory.ts';
import { sbdf } from '../frames/addresses.ts';
import { type DeviceConfig, defaultPolicies, type ModelPolicies, tablePagesFor } from '../host-config.ts';
import type { Call } from '../hypercall/calls.ts';
import { createGuestMemory, GuestMemory } from './guest-memory.ts';
import type { GuestEventName, GuestEvents, GuestSink } from './guest-spec.ts';
import { Intruder } from './intruder.ts';
import type { TaskContext } from './task.ts';
import { UsbDriver } from './usb-driver.ts';
import { useWindow } from './window-user.ts';

const USB = sbdf(0, 0, 0x14, 0);
const EHCI = sbdf(0, 0, 0x1a, 0);
const FRAMES = 256 * 256;
const REGION = 0x4000;
const PAGES = 10;
const WINDOW = 0xf7d20;

const usb = (address: number): DeviceConfig => ({
  sbdf: address as DeviceConfig['sbdf'],
  name: 'usb',
  vendor: 0x8086,
  device: 0x8c31,
  pciClass: 0x0c0330,
  unit: 0,
  upstreamBridge: null,
  bars: [],
});

class Recorder implements GuestSink {
  readonly all: { name: GuestEventName; data: unknown }[] = [];
  event<N extends GuestEventName>(name: N, data: GuestEvents[N]): void {
    this.all.push({ name, data });
  }
  of<N extends GuestEventName>(name: N): GuestEvents[N][] {
    return this.all.filter((event) => event.name === name).map(({ data }) => data as GuestEvents[N]); // recorded so
  }
}

function bootHost(policies: Partial<ModelPolicies> = {}): RealHost {
  return new RealHost(
    {
      frames: FRAMES,
      tablePages: tablePagesFor(FRAMES),
      heapRanges: [
        { start: 0x10, end: REGION },
        { start: REGION + PAGES, end: FRAMES },
      ],
      rmrrs: [{ startPfn: REGION, endPfn: REGION + PAGES - 1, devices: [USB, EHCI] }],
      devices: [usb(USB), usb(EHCI)],
      policies: { ...defaultPolicies, iommuTables: 'separate', ...policies },
    },
    64,
  );
}

/** A bare guest with a controller; `ram`: at the reserved frames too. */
function guest(host: RealHost, device: number, ram = false): TaskContext & { readonly sink: Recorder } {
  const dom0 = (call: Call) => host.port(0).call(call);
  const { domid = -1 } = host.port(0).call({
    op: 'createdomain',
    domid: 0,
    name: 'g',
    hvm: true,
    hap: true,
    iommu: true,
    noSharept: false,
    vcpus: 1,
    deviceModel: true,
  });
  dom0({ op: 'max_mem', domid, maxKb: 64 * 1024 });
  dom0({ op: 'set_paging_mempool_size', domid, bytes: 2 * 2 ** 20 });
  dom0({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: 0x100, count: 64 } });
  if (ram) dom0({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: REGION, count: PAGES } });
  expect(dom0({ op: 'assign_device', domid, sbdf: device, flags: 1 }).rc).toBe(0);
  dom0({ op: 'unpausedomain', domid });
  const memory = createGuestMemory({
    ranges: [{ start: 0x100, end: 0x140 }],
    taken: [],
    vcpus: 1,
    seed: 1,
    unitPages: 1,
    allocation: 'scattered',
    hotplugPages: 0,
  });
  const sink = new Recorder();
  return { memory: new GuestMemory(memory, 0), port: host.port(domid), sink, seed: domid, mailboxes: new Map() };
}

function driver(context: TaskContext, device: number): UsbDriver {
  return new UsbDriver(context, { id: 'usb', kind: 'usb', device, framesPerSecond: 0 });
}

function use(task: UsbDriver, frames: number): void {
  task.request(frames);
  while (task.step(0) === 0);
}

const sums = (sink: Recorder) =>
  sink.of('reservedIo').reduce(
    (sum, { frames, completed, faults, foreign, unseen }) => ({
      frames: sum.frames + frames,
      completed: sum.completed + completed,
      faults: sum.faults + faults,
      foreign: sum.foreign + foreign,
      unseen: sum.unseen + unseen,
    }),
    { frames: 0, completed: 0, faults: 0, foreign: 0, unseen: 0 },
  );

describe('a USB controller with reserved memory', () => {
  it('finds firmware’s tag in every frame, and the CPU sees what it writes', () => {
    const context = guest(bootHost(), USB);
    const task = driver(context, USB);
    expect(context.sink.of('reservedRegion')).toEqual([
      { id: 'usb', startPfn: REGION, pages: PAGES, firmware: PAGES, missing: 0 },
    ]);
    use(task, 50);
    expect(sums(context.sink)).toEqual({ frames: 50, completed: 50, faults: 0, foreign: 0, unseen: 0 });
  });

  it('that has guest RAM there finds no tag of firmware’s, and does not notice anything else', () => {
    const context = guest(bootHost(), USB, true);
    use(driver(context, USB), 20);
    expect(context.sink.of('reservedRegion')[0]).toMatchObject({ firmware: 0, missing: 0 });
    expect(sums(context.sink)).toMatchObject({ completed: 20, foreign: 0, unseen: 0 });
  });

  it('as in 2014: the CPU does not see what the device writes', () => {
    const context = guest(bootHost({ rmrrIdentity: 'iommu-only' }), USB, true);
    use(driver(context, USB), 20);
    expect(sums(context.sink)).toMatchObject({ completed: 20, foreign: 0, unseen: 20 });
  });

  it('notices what the controller of another guest wrote into the same frames, and never its own neighbour’s', () => {
    const host = bootHost();
    const [a, b] = [guest(host, USB), guest(host, EHCI)];
    const [first, second] = [driver(a, USB), driver(b, EHCI)];
    use(first, PAGES);
    use(second, PAGES);
    use(first, PAGES);
    expect(sums(a.sink).foreign).toBe(PAGES);
    const alone = guest(bootHost(), USB);
    const one = driver(alone, USB);
    const other = driver({ ...alone, seed: 99 }, USB);
    for (const task of [one, other, one]) use(task, PAGES);
    expect(sums(alone.sink).foreign).toBe(0);
  });
});

describe('a kernel that enters reserved frames', () => {
  const enter = (context: TaskContext & { readonly sink: Recorder }, how: 'move' | 'give-up') => {
    const intruder = new Intruder(context);
    intruder.request({ do: 'enter-reserved', id: 'e', device: USB, how, attempts: 30 });
    while (intruder.step(0) === 0 && (context.sink.of('enteredReserved').at(-1)?.attempts ?? 0) < 30);
    return context.sink.of('enteredReserved').at(-1);
  };

  it('is refused each time, and has its own pages still', () => {
    const context = guest(bootHost(), USB);
    expect(enter(context, 'move')).toMatchObject({ attempts: 30, entered: 0, firstError: -1 });
    expect(context.memory.record.freePages).toBe(64);
    expect(enter(context, 'give-up')).toMatchObject({ attempts: 30, entered: 0 });
    expect(context.port.call({ op: 'load', frames: { start: REGION, count: 1 } }).tags).toEqual([firmwareTag(REGION)]);
  });

  it('gets in where special entries can be replaced', () => {
    const context = guest(bootHost({ specialEntries: 'replaceable' }), USB);
    expect(enter(context, 'move')).toMatchObject({ attempts: 30, entered: 30 });
  });
});

describe('a driver that uses a window of its device', () => {
  const wanted = { do: 'bar-io', id: 'b', device: USB, bar: 0, attempts: 40 } as const;

  it('is answered where the window is mapped, by nobody where firmware gave it no address', () => {
    const host = bootHost();
    const context = guest(host, USB);
    const domid = host.h.allDomains().at(-1)?.domid ?? -1;
    host.port(0).call({ op: 'iomem_permission', domid, firstMfn: WINDOW, nrMfns: 16, allow: true });
    const window = { firstGfn: 0xf3000, firstMfn: WINDOW, nrMfns: 16, add: true };
    expect(host.port(0).call({ op: 'memory_mapping', domid, ...window }).rc).toBe(0);
    const at = (gfn: number | null) => [{ device: USB, windows: [{ bar: 0, gfn, pages: 16 }] }];
    for (const gfn of [0xf3000, 0xf4000, null]) useWindow(context, at(gfn), wanted);
    expect(context.sink.of('barIo').map(({ answered }) => answered)).toEqual([40, 0, 0]);
  });
});
