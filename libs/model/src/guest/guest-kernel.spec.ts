import { beforeEach, describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, finish, type TestPorts, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { sbdf } from '../frames/addresses.ts';
import { defaultPolicies, type HostConfig, tablePagesFor } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import type { BuiltDomain } from '../toolstack/built-domain.ts';
import { createDomain, defaultCreateOptions } from '../toolstack/domain-builder.ts';
import { makeAssignable } from '../toolstack/pci-assignment.ts';
import { bootGuest } from './boot.ts';
import { GuestKernel } from './guest-kernel.ts';
import { guestPhase } from './guest-record.ts';
import {
  defaultBalloon,
  type GpuWorkloadSpec,
  type GuestEventName,
  type GuestEvents,
  type GuestSink,
  type GuestSpec,
  type NicWorkloadSpec,
} from './guest-spec.ts';

const FRAMES = 512 * 256;
const GPU = sbdf(0, 0, 2, 0);
const NIC = sbdf(0, 3, 0, 0);

const device = (at: number, name: string): HostConfig['devices'][number] => ({
  sbdf: at as HostConfig['devices'][number]['sbdf'],
  name,
  vendor: 0x8086,
  device: 0x1912,
  pciClass: 0x020000,
  unit: 0,
  upstreamBridge: null,
  bars: [],
});

const overrides: Partial<HostConfig> = {
  frames: FRAMES,
  devices: [device(GPU, 'gpu'), device(NIC, 'nic')],
  tablePages: tablePagesFor(FRAMES),
};

class Recorder implements GuestSink {
  readonly all: { name: GuestEventName; data: GuestEvents[GuestEventName] }[] = [];
  event<N extends GuestEventName>(name: N, data: GuestEvents[N]): void {
    this.all.push({ name, data });
  }
  of<N extends GuestEventName>(name: N): GuestEvents[N][] {
    // An event is recorded with its own name's data.
    return this.all.filter((event) => event.name === name).map(({ data }) => data as GuestEvents[N]);
  }
}

const baseSpec: GuestSpec = {
  domid: 0,
  name: 'Domain-0',
  control: true,
  vcpus: 2,
  seed: 42,
  e820: null,
  targetKb: null,
  staticMaxKb: null,
  bootTouchMb: 4,
  allocation: 'scattered',
  balloon: defaultBalloon,
  foreignMapPlace: 'ballooned-hole',
  workloads: [],
  timeScale: 1,
};
const nic: NicWorkloadSpec = {
  id: 'nic',
  kind: 'nic',
  device: NIC,
  ringFrames: 512,
  framesPerSecond: 0,
  passes: 4,
  verifyEvery: 1,
};
const gpu: GpuWorkloadSpec = {
  id: 'gpu',
  kind: 'gpu',
  device: GPU,
  bufferGfn: null,
  bufferFrames: 64,
  bursts: 0,
  burstFrames: 8,
  framesPerSecond: 0,
  onFault: 'count',
  resetsBeforeCrash: 0,
};

interface Running {
  readonly kernel: GuestKernel;
  readonly events: Recorder;
  /** Runs all vCPUs in turn until the guest's clock passes `until`, or nothing is due; answers the clock. */
  run(until: number, slices?: number): number;
}

function start(host: RealHost, spec: GuestSpec): Running {
  const events = new Recorder();
  const shared = bootGuest(spec, host.port(spec.domid), events);
  const vcpus = Array.from({ length: spec.vcpus }, (_, vcpu) => ({ vcpu, port: host.port(spec.domid, vcpu) }));
  const kernel = new GuestKernel(shared, vcpus, events);
  let now = 0;
  const run = (until: number, slices = 1_000): number => {
    for (let i = 0; i < slices && now <= until; i++) {
      const next = Math.min(...vcpus.map(({ vcpu }) => kernel.run(vcpu, now)));
      if (next === Number.POSITIVE_INFINITY) break;
      if (next > until) {
        now = until;
        break;
      }
      now = Math.max(now, next);
    }
    return now;
  };
  return { kernel, events, run };
}

function specOf(domain: BuiltDomain, ports: TestPorts, more: Partial<GuestSpec>): GuestSpec {
  const { domid, e820, build } = domain;
  return {
    ...baseSpec,
    domid,
    name: build.config.name,
    control: false,
    e820,
    targetKb: Number(ports.xenstore.read(domid, 'memory/target')),
    staticMaxKb: Number(ports.xenstore.read(domid, 'memory/static-max')),
    ...more,
  };
}

const podGuest = (extra = ''): string => `name = "win"\ntype = "hvm"\nvcpus = 2\nmemory = 64\nmaxmem = 128\n${extra}`;
const withGpu = { ...defaultCreateOptions, libxlPodCheck: 'off' } as const;

/** dom0's RAM that is not mapped by superpages, in pages. */
function smallLeaves(host: RealHost): number {
  const leaf = new Leaf();
  let small = 0;
  for (let g = 0; g < 128 * 256; g += 2 ** leaf.order) {
    peekEntry(host.h, host.h.dom0, g, leaf);
    if (leaf.type === p2mType.ramRw && leaf.order === 0) small++;
  }
  return small;
}

describe('a guest kernel on a real host', () => {
  let host: RealHost;
  let ports: TestPorts;
  const setUp = (policies: Partial<HostConfig['policies']> = {}): void => {
    host = new RealHost({ ...overrides, policies: { ...defaultPolicies, ...policies } }, 128);
    ports = toolstackOn(host);
  };
  beforeEach(() => setUp());

  it('boots in PoD mode down to its target without touching more than it has', () => {
    const domain = built(finish(createDomain(ports, config(podGuest()))));
    const { kernel, events, run } = start(host, specOf(domain, ports, { bootTouchMb: 16 }));
    run(60_000, 300);
    expect(kernel.phase).toBe(guestPhase.running);
    const [running] = events.of('running');
    expect(running?.currentPages).toBe(running?.targetPages);
    const { info } = host.port(0).call({ op: 'getdomaininfo', domid: domain.domid });
    expect(info?.podEntries).toBeLessThanOrEqual(info?.podCache ?? 0);
    expect(events.of('panic')).toEqual([]);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('dies of its PoD cache when it touches everything before it balloons', () => {
    const domain = built(finish(createDomain(ports, config(podGuest()))));
    const spec = specOf(domain, ports, {
      balloon: { ...defaultBalloon, enabled: false },
      workloads: [{ id: 'm', kind: 'memory', mb: 120, framesPerSecond: 0, verify: true, onCorruption: 'count' }],
    });
    const { run } = start(host, spec);
    expect(() => run(60_000, 500)).toThrow(/is held/);
    expect(host.log.lines.some((line) => line.includes('out of PoD memory!'))).toBe(true);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('keeps a target that was set while it was still booting', () => {
    const text = 'type = "hvm"\nvcpus = 1\nmemory = 32\n';
    const boot = (name: string, less: number): number => {
      const domain = built(finish(createDomain(ports, config(`name = "${name}"\n${text}`))));
      const { kernel, run } = start(host, specOf(domain, ports, { vcpus: 1 }));
      const target = Number(ports.xenstore.read(domain.domid, 'memory/target'));
      if (less > 0) kernel.command({ do: 'target', kib: target - less * 1024 });
      run(60_000, 200);
      return host.h.domain(domain.domid)?.r.totPages ?? 0;
    };
    const whole = boot('whole', 0);
    expect(boot('less', 8)).toBe(whole - 8 * 256);
  });

  it('follows its target down and up again, and the frames are really given and taken', () => {
    const domain = built(finish(createDomain(ports, config('name = "l"\ntype = "hvm"\nvcpus = 1\nmemory = 96\n'))));
    const { kernel, events, run } = start(host, specOf(domain, ports, { vcpus: 1 }));
    run(1_000, 100);
    const tot = (): number => host.h.domain(domain.domid)?.r.totPages ?? 0;
    const before = tot();
    const [atBoot] = events.of('balloon');
    const target = Number(ports.xenstore.read(domain.domid, 'memory/target'));
    kernel.command({ do: 'target', kib: target - 32 * 1024 });
    run(60_000, 200);
    expect(tot()).toBe(before - 32 * 256);
    kernel.command({ do: 'target', kib: target });
    run(120_000, 200);
    expect(tot()).toBe(before);
    // What static-max counts and the kernel never saw (video memory) stays ballooned out, as with Linux.
    expect(atBoot?.ballooned).toBe(8 * 256);
    expect(events.of('balloon').at(-1)?.ballooned).toBe(8 * 256);
    expect(events.of('balloonReady')).toHaveLength(1);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('writes and verifies its memory, and finds nothing lost', () => {
    const domain = built(
      finish(createDomain(ports, config('name = "l"\ntype = "pvh"\nkernel = "k"\nvcpus = 2\nmemory = 64\n'))),
    );
    const spec = specOf(domain, ports, {
      workloads: [{ id: 'm', kind: 'memory', mb: 24, framesPerSecond: 0, verify: true, onCorruption: 'panic' }],
    });
    const { events, run } = start(host, spec);
    run(60_000, 100);
    expect(events.of('memoryRound').at(-1)?.frames).toBe(24 * 256);
    expect(events.of('memoryRound').length).toBeGreaterThan(3);
    expect(events.of('noWriteLost')).toEqual([]);
    expect(events.of('ramMissing')).toEqual([]);
  });

  it.each(['separate', 'shared'] as const)('its GPU faults on PoD frames no CPU touched, %s tables', (iommuTables) => {
    setUp({ podWithPassthrough: 'allow', iommuTables });
    makeAssignable(ports, GPU);
    const domain = built(finish(createDomain(ports, config(podGuest('pci = ["0000:00:02.0"]\n')), withGpu)));
    const workloads = [{ ...gpu, bufferGfn: 0x5000, onFault: 'crash' }] as const;
    const { kernel, events, run } = start(host, specOf(domain, ports, { workloads }));
    run(60_000, 300);
    kernel.command({ do: 'gpu-dma', device: GPU, attempts: 1, place: 'touched' });
    run(60_000, 5);
    expect(events.of('gpuBurst')).toMatchObject([{ first: 0x5000, faults: 0, completed: 1 }]);
    kernel.command({ do: 'gpu-dma', device: GPU, attempts: 20, place: 0x5001 });
    run(60_000, 5);
    expect(events.of('gpuBurst')[1]).toMatchObject({ first: 0x5001, firstFaultDfn: 0x5001, reason: 5 });
    expect(events.of('panic')[0]?.text).toMatch(/video device hung/);
    expect(host.log.lines).toContain('[VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 5001000');
    expect(kernel.dead).toBe(true);
    const { info } = host.port(0).call({ op: 'getdomaininfo', domid: domain.domid });
    expect(((info?.flags ?? 0) >> 16) & 0xff).toBe(3);
  });

  it('its GPU finds every frame when PoD was populated before the device was assigned', () => {
    setUp({ podWithPassthrough: 'populate-first' });
    makeAssignable(ports, GPU);
    const options = { ...withGpu, populateFirst: true };
    const result = finish(createDomain(ports, config(podGuest('pci = ["0000:00:02.0"]\n')), options));
    const domain = built(result);
    const { kernel, events, run } = start(host, specOf(domain, ports, { workloads: [{ ...gpu, bufferGfn: 0x5000 }] }));
    run(60_000, 300);
    kernel.command({ do: 'gpu-dma', device: GPU, attempts: 20, place: 0x5000 });
    run(60_000, 5);
    expect(events.of('gpuBurst')).toMatchObject([{ faults: 0, completed: 20 }]);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('dom0 receives into its ring, maps foreign frames into holes and refills them, and no write is lost', () => {
    const domain = built(finish(createDomain(ports, config('name = "b"\ntype = "pvh"\nkernel = "k"\nmemory = 32\n'))));
    const { kernel, events, run } = start(host, { ...baseSpec, workloads: [nic] });
    run(1_000, 20);
    const dom0Pages = host.h.dom0.r.totPages;
    const shatters = host.h.counters.read('p2m.split');
    const copy = { id: 'c', domid: domain.domid, gfn: 0x1000, pages: 600, batch: 128, tag: 77 };
    kernel.command({ do: 'foreign-copy', ...copy });
    run(60_000, 60);
    expect(events.of('foreignCopyDone')).toEqual([
      { id: 'c', domid: domain.domid, mapped: 600, failed: 0, firstError: 0 },
    ]);
    expect(host.port(domain.domid).call({ op: 'verify', frames: { start: 0x1000, count: 600 }, tag: 77 }).bad).toBe(0);
    expect(host.h.counters.read('p2m.split')).toBeGreaterThan(shatters + 30);
    expect(host.h.dom0.r.totPages).toBe(dom0Pages);
    expect(events.of('nicJob').length).toBeGreaterThan(10);
    expect(events.of('nicJob').every(({ faults }) => faults === 0)).toBe(true);
    expect(events.of('noWriteLost')).toEqual([]);
    expect(events.of('ramMissing')).toEqual([]);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('dom0 that maps foreign frames above its RAM shatters nothing', () => {
    const domain = built(finish(createDomain(ports, config('name = "b"\ntype = "pvh"\nkernel = "k"\nmemory = 32\n'))));
    const { kernel, events, run } = start(host, { ...baseSpec, foreignMapPlace: 'top-of-ram' });
    run(1_000, 20);
    const shatters = host.h.counters.read('p2m.split');
    kernel.command({ do: 'foreign-copy', id: 'c', domid: domain.domid, gfn: 0x1000, pages: 600, batch: 128, tag: 77 });
    run(60_000, 60);
    expect(events.of('foreignCopyDone')[0]).toMatchObject({ mapped: 600, failed: 0 });
    expect(host.h.counters.read('p2m.split')).toBe(shatters);
    expect(host.port(domain.domid).call({ op: 'verify', frames: { start: 0x1000, count: 600 }, tag: 77 }).bad).toBe(0);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('with the 2M balloon dom0 gives up and takes back whole superpages', () => {
    const { kernel, run } = start(host, {
      ...baseSpec,
      balloon: { ...defaultBalloon, order: '2m' },
      targetKb: 128 * 1024,
    });
    run(1_000, 20);
    const small = smallLeaves(host);
    // The kernel keeps off the ISA range of its RAM and does not count it.
    const isaKib = 384;
    kernel.command({ do: 'target', kib: 96 * 1024 - isaKib });
    run(60_000, 60);
    expect(host.h.dom0.r.totPages).toBe(96 * 256);
    // Each run is taken apart page by page as it goes; what stays is whole.
    expect(smallLeaves(host)).toBe(small);
    kernel.command({ do: 'target', kib: 128 * 1024 - isaKib });
    run(120_000, 60);
    expect(host.h.dom0.r.totPages).toBe(128 * 256);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('is a crashed domain after its own panic, and starts and stops workloads by command', () => {
    const domain = built(
      finish(createDomain(ports, config('name = "l"\ntype = "pvh"\nkernel = "k"\nvcpus = 2\nmemory = 64\n'))),
    );
    const { kernel, events, run } = start(host, specOf(domain, ports, {}));
    run(1_000, 20);
    const workload = {
      id: 'm',
      kind: 'memory',
      mb: 4,
      framesPerSecond: 0,
      verify: true,
      onCorruption: 'panic',
    } as const;
    kernel.command({ do: 'start', workload });
    run(1_000, 10);
    kernel.command({ do: 'stop', id: 'm' });
    run(1_000, 3);
    kernel.command({ do: 'start', workload });
    run(1_000, 10);
    expect(events.of('workload').map(({ state }) => state)).toEqual(['started', 'stopped', 'started']);
    // Something else writes into the program's memory.
    const frames = { start: 0, count: 64 * 256 };
    host.port(domain.domid).call({ op: 'store', frames, tag: 0x666 });
    run(1_000, 20);
    expect(events.of('noWriteLost')[0]).toMatchObject({ found: 0x666 });
    expect(events.of('panic')[0]?.text).toMatch(/memory corruption/);
    expect(kernel.run(0, 0)).toBe(Number.POSITIVE_INFINITY);
  });
});
