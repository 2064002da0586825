import { describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, finish, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { sbdf } from '../frames/addresses.ts';
import { defaultPolicies, type HostConfig, tablePagesFor } from '../host-config.ts';
import type { Call } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { checkInvariants } from '../invariants/check.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { createDomain, defaultCreateOptions } from './domain-builder.ts';
import { makeAssignable } from './pci-assignment.ts';

const FRAMES = 768 * 256;
const GPU = sbdf(0, 0, 2, 0);

/** 768 MiB, one device with a window and a reserved region at 448 MiB. */
const overrides: Partial<HostConfig> = {
  frames: FRAMES,
  heapRanges: [
    { start: 0x100, end: 0x1c000 },
    { start: 0x1c010, end: FRAMES },
  ],
  memoryMap: [
    { addr: 0, size: 0x1c000000, type: 1 },
    { addr: 0x1c000000, size: 0x10000, type: 2 },
    { addr: 0x1c010000, size: FRAMES * 4096 - 0x1c010000, type: 1 },
  ],
  rmrrs: [{ startPfn: 0x1c000, endPfn: 0x1c00f, devices: [GPU] }],
  devices: [
    {
      sbdf: GPU,
      name: 'gpu',
      vendor: 0x8086,
      device: 0x1912,
      pciClass: 0x030000,
      unit: 0,
      upstreamBridge: null,
      bars: [{ index: 0, size: 16 * 2 ** 20, kind: 'mem64', hostAddr: 0xf0000000 }],
    },
  ],
  tablePages: tablePagesFor(FRAMES),
};
const hostWith = (policies: Partial<HostConfig['policies']> = {}): RealHost =>
  new RealHost({ ...overrides, policies: { ...defaultPolicies, ...policies } }, 64);

const hvm = (more: string): string => `name = "win"\ntype = "hvm"\nvcpus = 2\n${more}\n`;
const typeAt = (host: RealHost, domid: number, gfn: number): number => {
  const d = host.h.domain(domid);
  if (!d) throw new Error(`no domain ${domid}`);
  const leaf = new Leaf();
  peekEntry(host.h, d, gfn, leaf);
  return leaf.type;
};

describe('building a domain over real hypercalls', () => {
  it('builds an HVM guest: RAM, holes, special pages, firmware, xenstore, and every invariant holds', () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    const lines: string[] = [];
    const result = finish(createDomain(ports, config(hvm('memory = 256'))), (pause) => {
      if (pause.do === 'console') lines.push(...pause.lines);
      return { ok: true };
    });
    const { domid, e820, firmwareE820, firmwareOk } = built(result);
    expect(firmwareOk).toBe(true);
    expect(lines).toContain('HVM Loader');
    expect(typeAt(host, domid, 0x9f)).toBe(p2mType.ramRw);
    expect([p2mType.invalid, p2mType.mmioDm]).toContain(typeAt(host, domid, 0xa5));
    expect(typeAt(host, domid, 0xfeff8)).toBe(p2mType.ramRw);
    expect(typeAt(host, domid, 0xfc000)).toBe(p2mType.ramRw);
    expect(firmwareE820?.filter(({ type }) => type === 1)).toEqual([
      { addr: 0, size: 0xa0000, type: 1 },
      { addr: 0x100000, size: 247 * 2 ** 20, type: 1 },
    ]);
    // SeaBIOS keeps the last page of low RAM for its tables.
    expect(e820).toContainEqual({ addr: 0xf7ff000, size: 0x1000, type: 2 });
    // The video memory lies where firmware put the adapter's window.
    expect(typeAt(host, domid, 0xf0000)).toBe(p2mType.ramRw);
    expect(ports.xenstore.read(domid, 'memory/static-max')).toBe(String(256 * 1024));
    expect(ports.xenstore.read(domid, 'memory/target')).toBe(String(248 * 1024));
    expect(ports.xenstore.read(domid, 'memory/videoram')).toBe('8192');
    expect(host.h.domain(domid)?.r.pauseCount).toBe(0);
    expect(host.h.heap.claimedPages).toBe(0);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('builds a PVH guest from 16 MiB up without firmware, its map as the builder wrote it', () => {
    const host = hostWith();
    const result = finish(
      createDomain(toolstackOn(host), config('name = "g"\ntype = "pvh"\nkernel = "k"\nmemory = 64\n')),
    );
    const { domid, e820 } = built(result);
    expect(e820[0]).toEqual({ addr: 0, size: 64 * 2 ** 20, type: 1 });
    expect(typeAt(host, domid, 0xa5)).toBe(p2mType.ramRw);
    expect(host.port(domid).call({ op: 'memory_map' }).entries).toEqual(e820);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('builds below the maximum in PoD mode: entries for the maximum, frames for the target', () => {
    const host = hostWith();
    const { domid } = built(finish(createDomain(toolstackOn(host), config(hvm('memory = 128\nmaxmem = 256')))));
    expect(typeAt(host, domid, 0x4000)).toBe(p2mType.populateOnDemand);
    const { info } = host.port(0).call({ op: 'getdomaininfo', domid });
    expect(info?.podEntries).toBeGreaterThan(200 * 256);
    expect(info?.podCache).toBeGreaterThan(110 * 256);
    // The target, which includes the video memory, and what lies outside RAM: special pages, tables, an option ROM.
    expect(info?.totPages).toBeGreaterThanOrEqual(128 * 256);
    expect(info?.totPages).toBeLessThan(129 * 256);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('assigns devices last, keeps RAM off their reserved region and maps their windows', () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    expect(makeAssignable(ports, GPU).ok).toBe(true);
    const text = hvm('memory = 128\npci = ["0000:00:02.0"]');
    const domain = built(finish(createDomain(ports, config(text))));
    expect(domain.devices[0]?.windows[0]).toMatchObject({ mfn: 0xf0000, pages: 4096 });
    const window = domain.devices[0]?.windows[0]?.gfn ?? 0;
    expect(typeAt(host, domain.domid, window)).toBe(p2mType.mmioDirect);
    expect(typeAt(host, domain.domid, 0x1c000)).toBe(p2mType.mmioDirect);
    expect(domain.e820).toContainEqual({ addr: 0x1c000000, size: 0x10000, type: 2 });
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('refuses, as libxl does, PoD together with a device, and builds nothing', () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    makeAssignable(ports, GPU);
    const text = hvm('memory = 64\nmaxmem = 128\npci = ["0000:00:02.0"]');
    const result = finish(createDomain(ports, config(text)));
    expect(result).toMatchObject({
      ok: false,
      message: 'IOMMU required for device passthrough but not supported together with PoD',
    });
    expect(host.h.allDomains()).toHaveLength(1);
  });

  it("meets Xen's own refusal of PoD with a device when libxl does not check, and undoes everything", () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    makeAssignable(ports, GPU);
    const free = host.h.heap.freePages;
    const text = hvm('memory = 64\nmaxmem = 128\npci = ["0000:00:02.0"]');
    const options = { ...defaultCreateOptions, libxlPodCheck: 'off' } as const;
    const result = finish(createDomain(ports, config(text), options));
    expect(result).toMatchObject({ ok: false, message: 'xc_assign_device failed: Invalid cross-device link' });
    expect(result.log.map(({ at, text }) => `${at?.func}: ${text}`)).toEqual([
      'pci_add_dm_done: xc_assign_device failed: Invalid cross-device link',
      'device_pci_add_done: libxl__device_pci_add failed for PCI device 0:0:2.0 (rc -3)',
      'domcreate_attach_devices: unable to add pci devices',
    ]);
    expect(host.h.allDomains()).toHaveLength(1);
    expect(host.h.heap.freePages).toBe(free);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('with the historical policy builds it, and the device finds nothing at a frame no CPU touched', () => {
    const host = hostWith({ podWithPassthrough: 'allow' });
    const ports = toolstackOn(host);
    makeAssignable(ports, GPU);
    const text = hvm('memory = 64\nmaxmem = 128\npci = ["0000:00:02.0"]');
    const options = { ...defaultCreateOptions, libxlPodCheck: 'off' } as const;
    const { domid } = built(finish(createDomain(ports, config(text), options)));
    expect(typeAt(host, domid, 0x5000)).toBe(p2mType.populateOnDemand);
  });

  it('says that a strict reserved region conflicts, and builds nothing', () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    makeAssignable(ports, GPU);
    // The region lies below the default boundary of 2 GiB, so RAM is not moved out of its way.
    const result = finish(createDomain(ports, config(hvm('memory = 512\npci = ["0000:00:02.0"]'))));
    expect(result.log.map(({ text }) => text)).toEqual([
      'RDM conflict at 0x1c000000.',
      'checking reserved device memory failed',
      'cannot (re-)build domain: -3',
    ]);
    expect(host.h.allDomains()).toHaveLength(1);
  });

  it('refuses a guest larger than the host before it populates anything', () => {
    const host = hostWith();
    const free = host.h.heap.freePages;
    const result = finish(createDomain(toolstackOn(host), config(hvm('memory = 2048'))));
    expect(result).toMatchObject({
      ok: false,
      message: 'Could not allocate memory for HVM guest as we cannot claim memory!',
    });
    expect(host.h.heap.freePages).toBe(free);
  });

  it('leaves nothing half-created whichever of its hypercalls fails', () => {
    const host = hostWith();
    const ports = toolstackOn(host);
    makeAssignable(ports, GPU);
    const text = config(hvm('memory = 24\nvga = "none"\npci = ["0000:00:02.0"]'));
    const free = host.h.heap.freePages;
    const nodes = ports.xenstore.nodes.size;
    const isBuilding = (call: Call): boolean =>
      !['destroydomain', 'pausedomain', 'deassign_device', 'getdomaininfo', 'physinfo'].includes(call.op);
    let failures = 0;
    for (let nth = 1; ; nth++) {
      let seen = 0;
      let undoing = false;
      host.intercept = (_, call) => {
        if (undoing || !isBuilding(call)) return null;
        return ++seen === nth ? { rc: -errno.ENOMEM } : null;
      };
      const result = finish(createDomain(ports, text), (pause) => {
        undoing ||= pause.do === 'stop-guest';
        return { ok: true };
      });
      host.intercept = () => null;
      if (seen < nth) {
        expect(result.ok).toBe(true);
        break;
      }
      if (result.ok) {
        // A failed attempt at a superpage, or a page the firmware found elsewhere, is no failure of the build.
        const domains = host.h.allDomains().filter((d) => d.domid !== 0);
        for (const d of domains) host.port(0).call({ op: 'deassign_device', domid: d.domid, sbdf: GPU });
        for (const d of domains) host.port(0).call({ op: 'destroydomain', domid: d.domid });
        for (const d of domains) ports.xenstore.removeDomain(d.domid);
      } else failures++;
      expect(host.h.allDomains()).toHaveLength(1);
      expect(host.h.heap.freePages).toBe(free);
      expect(ports.xenstore.nodes.size).toBe(nodes);
    }
    expect(failures).toBeGreaterThan(10);
    expect(checkInvariants(host.h)).toEqual([]);
  });
});
