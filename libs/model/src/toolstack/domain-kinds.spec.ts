import { describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, finish, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { tablePagesFor } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { createDomain, defaultCreateOptions } from './domain-builder.ts';

const FRAMES = 768 * 256;
const hostWithRoom = (): RealHost => new RealHost({ frames: FRAMES, tablePages: tablePagesFor(FRAMES) }, 64);

function build(text: string, acpiRegion: 'nvs' | 'acpi' = 'nvs') {
  const host = hostWithRoom();
  const ports = toolstackOn(host);
  const free = host.h.heap.freePages;
  const result = finish(createDomain(ports, config(`name = "g"\n${text}\n`), { ...defaultCreateOptions, acpiRegion }));
  return { host, ports, free, result };
}
const pagesOf = (host: RealHost, domid: number): number =>
  host.port(0).call({ op: 'getdomaininfo', domid }).info?.totPages ?? 0;

describe('a PV domain', () => {
  const PV = 'type = "pv"\nkernel = "k"\nmemory = 65\nmaxmem = 100';

  it('gets its target in pages, and one range up to maxmem for a map', () => {
    const { host, ports, result } = build(PV);
    const { domid, e820, firmwareE820 } = built(result);
    expect(pagesOf(host, domid)).toBe(65 * 256);
    expect(e820).toEqual([{ addr: 0, size: 100 * 2 ** 20, type: 1 }]);
    expect(firmwareE820).toBeNull();
    expect(host.port(domid).call({ op: 'memory_map' }).entries).toEqual(e820);
    expect(ports.xenstore.read(domid, 'memory/target')).toBe(String(65 * 1024));
    expect(host.h.heap.claimedPages).toBe(0);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it("with e820_host sees the host's ranges behind its RAM", () => {
    const { ports, host } = build(PV);
    const memoryMap = [
      { addr: 0, size: 0x10000000, type: 1 as const },
      { addr: 0x10000000, size: 0x1000, type: 2 as const },
    ];
    const text = 'name = "h"\ntype = "pv"\nkernel = "k"\nmemory = 64\ne820_host = 1\n';
    const { e820 } = built(finish(createDomain({ ...ports, memoryMap }, config(text))));
    expect(e820).toEqual([
      { addr: 0, size: 0x4000000, type: 1 },
      { addr: 0x4000000, size: 0xc000000, type: 5 },
      { addr: 0x10000000, size: 0x1000, type: 2 },
    ]);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('that the host has no room for leaves nothing behind', () => {
    const { host, free, result } = build('type = "pv"\nkernel = "k"\nmemory = 2048');
    expect(result).toMatchObject({ ok: false, message: 'failed to allocate memory for the domain' });
    expect(host.h.heap.freePages).toBe(free);
  });
});

describe('a PVH domain', () => {
  const PVH = 'type = "pvh"\nkernel = "k"\nmemory = 64';

  it('has frames and map entries for its ACPI tables, typed as the version of libxl does it', () => {
    for (const [region, type] of [
      ['nvs', 4],
      ['acpi', 3],
    ] as const) {
      const { host, result } = build(PVH, region);
      const { domid, e820 } = built(result);
      expect(e820.filter((entry) => entry.type === type)).toEqual([
        { addr: 0xfc008000, size: 64, type },
        { addr: 0xfc000000, size: 0x1000, type },
        { addr: 0xfc001000, size: 0x7000, type },
      ]);
      // Eight special pages, one page of information, seven of tables, one with the root pointer.
      expect(pagesOf(host, domid)).toBe(64 * 256 + 17);
    }
  });

  it('without ACPI has neither', () => {
    const { host, result } = build(`${PVH}\nacpi = 0`);
    const { domid, e820 } = built(result);
    expect(e820.map(({ type }) => type)).toEqual([1, 2]);
    expect(pagesOf(host, domid)).toBe(64 * 256 + 8);
  });
});

describe("an HVM domain's device model", () => {
  const typeAt = (host: RealHost, domid: number, gfn: number): number => {
    const d = host.h.domain(domid);
    if (!d) throw new Error(`no domain ${domid}`);
    const leaf = new Leaf();
    peekEntry(host.h, d, gfn, leaf);
    return leaf.type;
  };

  it('adds the video memory where firmware put its window, and an option ROM behind the RAM', () => {
    const { host, result } = build('type = "hvm"\nvga = "stdvga"\nmemory = 128');
    const { domid } = built(result);
    // The platform device's window of the same size comes first.
    for (const gfn of [0xf1000, 0xf1fff, 0x8000, 0x800f]) expect(typeAt(host, domid, gfn)).toBe(p2mType.ramRw);
    expect(typeAt(host, domid, 0x8010)).not.toBe(p2mType.ramRw);
    // RAM less the VGA hole, video memory, ROM, special pages, and twelve pages that hvmloader takes.
    expect(pagesOf(host, domid)).toBe(112 * 256 - 32 + 16 * 256 + 16 + 16 + 12);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('adds nothing to a guest without an adapter', () => {
    const { host, result } = build('type = "hvm"\nvga = "none"\nmemory = 128');
    expect(pagesOf(host, built(result).domid)).toBe(128 * 256 - 32 + 16 + 12);
  });

  it('does not start when its video memory exceeds what the domain may have, and the domain is gone', () => {
    const { host, free, result } = build('type = "hvm"\nvga = "stdvga"\nvideoram = 24\nmemory = 128');
    expect(result).toMatchObject({ ok: false, message: expect.stringContaining('device model did not start') });
    expect(host.h.heap.freePages).toBe(free);
  });
});
