import { beforeEach, describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, fine, finish, type TestPorts, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { sbdf } from '../frames/addresses.ts';
import { tablePagesFor } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { destroyDomain } from './destroy-domain.ts';
import { createDomain, defaultCreateOptions } from './domain-builder.ts';
import { configForReboot, pciAttach, pciDetach, rebootDomain } from './domain-ops.ts';
import { freeMemory } from './free-memory.ts';
import { libxlAt } from './libxl-log.ts';
import { memMax, memSet } from './memory-ops.ts';
import { assignableDevices, makeAssignable, unmakeAssignable } from './pci-assignment.ts';
import { pciDeviceDefaults } from './pci-spec.ts';
import type { Pause } from './ports.ts';
import { swapMemory } from './squeezed-loop.ts';

const FRAMES = 512 * 256;
const GPU = sbdf(0, 0, 2, 0);
const MIB = 1024;
const settings = { keepFreeKb: 9 * MIB, nowMs: 0 };
const gpuSpec = { ...pciDeviceDefaults, dev: 2, vfuncMask: 1 };
const hvm = (more: string) => config(`name = "win"\ntype = "hvm"\nvcpus = 2\n${more}\n`);
const pvh = (more: string) => config(`name = "lin"\ntype = "pvh"\nkernel = "k"\n${more}\n`);

describe('operations on a built domain', () => {
  let host: RealHost;
  let ports: TestPorts;
  beforeEach(() => {
    host = new RealHost({ frames: FRAMES, tablePages: tablePagesFor(FRAMES) }, 128);
    ports = toolstackOn(host);
  });
  const create = (c: ReturnType<typeof hvm>) => built(finish(createDomain(ports, c)));
  const info = (domid: number) => host.port(0).call({ op: 'getdomaininfo', domid }).info;

  it('destroy gives everything back and forgets the domain', () => {
    makeAssignable(ports, GPU);
    const free = host.h.heap.freePages;
    const domain = create(hvm('memory = 64\npci = ["0000:00:02.0"]'));
    const pauses: Pause['do'][] = [];
    const result = finish(destroyDomain(ports, domain.domid, domain.devices), (pause) => {
      pauses.push(pause.do);
      return fine;
    });
    expect(result.ok).toBe(true);
    expect(pauses).toEqual(['stop-guest']);
    expect(host.h.heap.freePages).toBe(free);
    expect(ports.xenstore.read(domain.domid, 'name')).toBeNull();
    expect(assignableDevices(ports).map(({ sbdf: at }) => at)).toEqual([GPU]);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('destroy of a domain that is not there says so', () => {
    expect(finish(destroyDomain(ports, 77, []))).toMatchObject({ ok: false, message: 'Non-existant domain', rc: -21 });
  });

  it('reboot reads the configuration back: ballooned down comes back in PoD mode, after two seconds', () => {
    const domain = create(hvm('memory = 128'));
    expect(configForReboot(ports, domain)).toMatchObject({ targetMemkb: 128 * MIB, maxMemkb: 128 * MIB });
    expect(memSet(ports, domain.domid, 96 * MIB, '96m').ok).toBe(true);
    const slept: number[] = [];
    const again = built(
      finish(rebootDomain(ports, domain, defaultCreateOptions), (pause) => {
        if (pause.do === 'sleep') slept.push(pause.ms);
        return fine;
      }),
    );
    expect(slept).toEqual([2000]);
    expect(again.domid).not.toBe(domain.domid);
    expect(again.build.targetMemkb).toBe(96 * MIB);
    expect(info(again.domid)?.podEntries).toBeGreaterThan(0);
    expect(info(domain.domid)).toBeUndefined();
  });

  it('reboot below the maximum with a device is refused by libxl, and the guest is gone', () => {
    makeAssignable(ports, GPU);
    const domain = create(hvm('memory = 128\npci = ["0000:00:02.0"]'));
    memSet(ports, domain.domid, 96 * MIB, '96m');
    expect(finish(rebootDomain(ports, domain, defaultCreateOptions))).toMatchObject({
      ok: false,
      message: 'IOMMU required for device passthrough but not supported together with PoD',
    });
    expect(host.h.allDomains()).toHaveLength(1);
  });

  it('mem-set moves limit and target, and refuses more than the static maximum', () => {
    const { domid } = create(hvm('memory = 64'));
    expect(memSet(ports, domid, 48 * MIB, '48m').ok).toBe(true);
    expect(ports.xenstore.read(domid, 'memory/target')).toBe(String(40 * MIB));
    expect(info(domid)?.maxPages).toBe((48 * MIB + 1024) / 4);
    expect(memSet(ports, domid, 100 * MIB, '100m')).toMatchObject({
      ok: false,
      message: 'memory_dynamic_max must be less than or equal to memory_static_max',
      log: [
        { by: 'libxl', at: libxlAt.dynamicAboveStatic, domid },
        { by: 'xl', text: `cannot set domid ${domid} dynamic max memory to : 100m` },
      ],
    });
  });

  it('mem-max refuses less than the target, else raises what mem-set may reach', () => {
    const { domid } = create(pvh('memory = 64'));
    expect(memMax(ports, domid, 32 * MIB, '32')).toMatchObject({ ok: false });
    expect(memMax(ports, domid, 128 * MIB, '128').ok).toBe(true);
    expect(ports.xenstore.read(domid, 'memory/static-max')).toBe(String(128 * MIB));
    expect(memSet(ports, domid, 96 * MIB, '96').ok).toBe(true);
  });

  it('mem-set keeps 128 MiB for dom0', () => {
    expect(memSet(ports, 0, 64 * MIB, '64m')).toMatchObject({ ok: false });
    expect(memSet(ports, 0, 128 * MIB, '128m').ok).toBe(true);
  });

  it('a device is only attached once it is assignable, and goes back to quarantine', () => {
    const domain = create(hvm('memory = 64\npassthrough = "enabled"'));
    expect(pciAttach(ports, domain, gpuSpec)).toMatchObject({
      ok: false,
      message: 'PCI device 0:0:2.0 is not assignable',
    });
    expect(makeAssignable(ports, GPU).ok).toBe(true);
    const attached = pciAttach(ports, domain, gpuSpec);
    const withDevice = built(attached);
    expect(info(domain.domid)?.devices).toEqual([GPU]);
    const other = create(hvm('memory = 32\npassthrough = "enabled"'));
    expect(pciAttach(ports, other, gpuSpec)).toMatchObject({
      ok: false,
      message: 'PCI device 0000:00:02.0 already assigned to a different guest?',
    });
    expect(built(pciDetach(ports, withDevice, GPU)).devices).toEqual([]);
    expect(built(pciAttach(ports, other, gpuSpec)).devices).toHaveLength(1);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('pci-assignable-remove gives the device back to dom0', () => {
    makeAssignable(ports, GPU);
    expect(info(0)?.devices).toEqual([]);
    expect(unmakeAssignable(ports, GPU).ok).toBe(true);
    expect(info(0)?.devices).toEqual([GPU]);
    expect(unmakeAssignable(ports, GPU)).toMatchObject({ message: 'failed to de-quarantine 0000:00:02.0' });
    const text = "Couldn't lstat /sys/bus/pci/devices/0000:09:09.1: No such file or directory";
    expect(makeAssignable(ports, sbdf(0, 9, 9, 1))).toMatchObject({ ok: false, message: text });
  });

  it("freemem fails when dom0 does not give up memory within xl's patience", () => {
    let slept = 0;
    const result = finish(freeMemory(ports, 1024 * MIB), (pause) => {
      if (pause.do === 'sleep') slept += pause.ms;
      return fine;
    });
    expect(result).toMatchObject({ ok: false, message: 'failed to free memory for the domain' });
    expect(slept).toBeLessThanOrEqual(10_000);
  });

  it('freemem takes what is missing from dom0 as its kernel gives it up', () => {
    host = new RealHost({ frames: FRAMES, tablePages: tablePagesFor(FRAMES) }, 256);
    ports = toolstackOn(host);
    const wanted = (host.h.heap.freePages + 5000) * 4;
    let at = 0x4000;
    const result = finish(freeMemory(ports, wanted), () => {
      host.port(0).call({ op: 'decrease_reservation', domid: 0, order: 0, extents: { start: at, count: 2500 } });
      at += 2500;
      return fine;
    });
    expect(result.ok).toBe(true);
    expect(ports.xenstore.read(0, 'memory/target')).toBe(String((256 * 256 - 5000) * 4));
  });

  it('swaps memory between two guests, the giver first', () => {
    const [a, b] = [create(pvh('memory = 64')), create(pvh('memory = 64\nmaxmem = 96'))];
    for (const { domid } of [a, b]) ports.xenstore.write(domid, 'control/feature-balloon', '1');
    const order: number[] = [];
    /** Both guests do at once what their target says; PVH: the whole target is RAM. */
    const balloon = (): void => {
      for (const { domid } of [a, b]) {
        const offset = Number(ports.xenstore.read(domid, 'memory/memory-offset'));
        const want = (Number(ports.xenstore.read(domid, 'memory/target')) + offset) / 4;
        const have = info(domid)?.totPages ?? 0;
        if (have !== want) order.push(domid);
        const port = host.port(domid);
        const extents = { start: 0x2000, count: Math.abs(want - have) };
        if (have > want) port.call({ op: 'decrease_reservation', domid, order: 0, extents });
        if (have < want)
          port.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { ...extents, start: 0x6000 } });
      }
    };
    const result = finish(swapMemory(ports, a.domid, b.domid, 16 * MIB, settings), (pause) => {
      if (pause.do === 'sleep') balloon();
      return fine;
    });
    expect(result).toMatchObject({ ok: true });
    expect(order).toEqual([a.domid, b.domid]);
    expect(ports.xenstore.read(a.domid, 'memory/target')).toBe(String(48 * MIB));
  });

  it('a swap fails, naming the guest, when its balloon does not move', () => {
    const [a, b] = [create(pvh('memory = 64')), create(pvh('memory = 64\nmaxmem = 96'))];
    for (const { domid } of [a, b]) ports.xenstore.write(domid, 'control/feature-balloon', '1');
    expect(finish(swapMemory(ports, a.domid, b.domid, 16 * MIB, settings))).toMatchObject({
      ok: false,
      message: expect.stringMatching(/^squeezed: domains refused to cooperate: /),
    });
  });
});
