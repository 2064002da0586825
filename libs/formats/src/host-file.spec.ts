import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hostConfig } from './host-config.ts';
import { loadHost, parseHost } from './host-file.ts';
import { OperatorError } from './operator-error.ts';
import { resolvePolicies } from './policies.ts';

const good = `name: tiny
source: made for this test
memoryMap:
  - { start: 0x0, end: 0x9ffff, type: usable }
  - { start: 0xf0000, end: 0xfffff, type: reserved }
  - { start: 0x100000, end: 0x3fffffff, type: usable }
  - { start: 0x40000000, end: 0x407fffff, type: reserved }
pcpus: 2
dom0: { memoryMb: 256, vcpus: 1 }
xenReservedMb: 64
hap: true
ept: { superpages: [2M] }
iommuUnits:
  - id: 0
    caps: { superpages: [2M], agaw: 39 }
    devices: [0000:00:02.0]
  - id: 1
    caps: { superpages: [2M], agaw: 48, psi: true, maxAm: 9 }
    includeAll: true
devices:
  - sbdf: 0000:00:02.0
    name: graphics
    id: 8086:0412
    class: 0x030000
    bars:
      - { index: 0, size: 4M, kind: mem64, hostAddr: 0xe0000000 }
      - { index: 2, size: 256M, kind: mem64p, hostAddr: 0xd0000000 }
  - sbdf: 0000:00:14.0
    name: usb
    id: 8086:8c31
    class: 0x0c0330
    bars:
      - { index: 0, size: 64K, kind: mem64, hostAddr: 0xe0400000 }
rmrrs:
  - { start: 0x40000000, end: 0x407fffff, devices: [0000:00:02.0] }
`;

/** `good` with one line replaced: its problems as `line message`. */
function mistakes(from: string, to: string): string[] {
  expect(good).toContain(from);
  try {
    parseHost(good.replace(from, to), 'h.yaml');
    return [];
  } catch (error) {
    if (error instanceof OperatorError) return error.problems.map((p) => `${p.line} ${p.message}`);
    throw error;
  }
}

it('reads a description: map sorted, units found for devices, defaults filled in', () => {
  const host = parseHost(good, 'h.yaml');
  expect(host.devices.map((d) => [d.vendor, d.device, d.pciClass, d.iommu])).toEqual([
    [0x8086, 0x0412, 0x030000, 0],
    [0x8086, 0x8c31, 0x0c0330, 1],
  ]);
  expect(host).toMatchObject({
    quarantine: 'basic',
    heapLimitMb: null,
    rmrrs: [{ start: 0x40000000, end: 0x407fffff }],
  });
});

it("reads what a device is on the bus, what its unit can do, and Xen's own `rmrr=`, for the model", () => {
  const text = good
    .replace(
      '    name: usb\n',
      '    name: usb\n    kind: pci\n    phantomStride: 4\n    hotplug: true\n    ats: true\n',
    )
    .replace(
      'psi: true, maxAm: 9',
      'psi: true, maxAm: 9, domainIds: 16, ats: true, queuedInvalidation: false, rwbf: true',
    )
    .replace('rmrrs:', 'rmrr: 40000-40003=0:14.0\nrmrrs:');
  const config = hostConfig(parseHost(text, 'h.yaml'), resolvePolicies({ ats: 'on' }));
  expect(config.devices[1]).toMatchObject({ kind: 'pci', phantomStride: 4, hotplug: true, ats: true });
  expect(config.units[1]).toMatchObject({
    domainIds: 16,
    ats: true,
    queuedInvalidation: false,
    writeBufferFlush: true,
  });
  expect([config.rmrrOption, config.policies.ats]).toEqual(['40000-40003=0:14.0', 'on']);
});

it('reads I/O memory that only Xen may write as whole pages, and refuses it over RAM or backwards', () => {
  const text = (range: string): string => good.replace('rmrrs:', `mmioReadOnly:\n  - ${range}\nrmrrs:`);
  const config = hostConfig(parseHost(text('{ start: 0xe0402000, end: 0xe0402fff }'), 'h.yaml'), resolvePolicies({}));
  expect(config.mmioRoRanges).toEqual([{ start: 0xe0402, end: 0xe0403 }]);
  for (const range of ['{ start: 0x100000, end: 0x100fff }', '{ start: 0xe0402fff, end: 0xe0402000 }']) {
    expect(() => parseHost(text(range), 'h.yaml')).toThrow(OperatorError);
  }
});

it('refuses a phantom function that is a device of its own', () => {
  const text = good.replace('0000:00:14.0\n    name: usb', '0000:00:02.4\n    name: usb');
  const withPhantom = text.replace('    name: graphics', '    name: graphics\n    phantomStride: 4');
  expect(() => parseHost(text, 'h.yaml')).not.toThrow();
  expect(() => parseHost(withPhantom, 'h.yaml')).toThrow('a phantom function of 0000:00:02.0 is 0000:00:02.4');
});

it('takes reserved regions outside the map: Xen reserves those pages itself', () => {
  expect(mistakes('end: 0x407fffff, devices', 'end: 0x408fffff, devices')).toEqual([]);
});

describe('refuses, with the line', () => {
  it.each([
    ['an unknown key', 'pcpus: 2', 'pcpu: 2', '8 unknown key `pcpu` (did you mean `pcpus`?)'],
    ['a decimal address', 'start: 0x100000,', 'start: 100000,', '6 `start`: must be an address in hex, not 100000'],
    [
      'overlapping regions, naming both lines',
      'end: 0x3fffffff',
      'end: 0x40000fff',
      '7 regions 0x100000–0x40000fff (usable) and 0x40000000–0x407fffff (reserved) overlap (lines 6 and 7)',
    ],
    [
      'a region that ends before it starts',
      'end: 0x9ffff,',
      'end: 0x9ffff, type: usable }\n  - { start: 0xe0000, end: 0xd0000,',
      '5 region 0xe0000–0xd0000 ends before it starts',
    ],
    [
      'a dom0 larger than the host',
      'memoryMb: 256',
      'memoryMb: 1000',
      "9 dom0 (1000 MiB) and Xen (64 MiB) need more than the host's 1023 MiB",
    ],
    [
      'an RMRR upside down',
      '- { start: 0x40000000, end: 0x407fffff, dev',
      '- { start: 0x407fffff, end: 0x40000000, dev',
      '35 RMRR base 0x407fffff is above its limit 0x40000000',
    ],
    [
      'an RMRR over RAM',
      '- { start: 0x40000000, end: 0x407fffff, dev',
      '- { start: 0x3ff00000, end: 0x407fffff, dev',
      '35 RMRR 0x3ff00000–0x407fffff lies over RAM: 0x3ff00000 is usable',
    ],
    [
      'an unknown device of an RMRR',
      'devices: [0000:00:02.0] }',
      'devices: [0000:00:03.0] }',
      '35 unknown device 0000:00:03.0 as scope of a reserved region (RMRR)',
    ],
    [
      'an unknown device in a unit',
      'devices: [0000:00:02.0]\n',
      'devices: [0000:00:1f.0]\n',
      '16 unknown device 0000:00:1f.0 as scope of IOMMU unit 0',
    ],
    [
      'a device given twice',
      'sbdf: 0000:00:14.0',
      'sbdf: 0000:00:02.0',
      '28 device 0000:00:02.0 is already on line 21',
    ],
    [
      'something that is no PCI address',
      'sbdf: 0000:00:14.0',
      'sbdf: 0000:00:34.0',
      '28 `sbdf`: must be a PCI address, not "0000:00:34.0"',
    ],
    [
      'a BAR that is no power of two',
      'size: 4M',
      'size: 3M',
      '26 BAR 0 of 0000:00:02.0: size 0x300000 is not a power of two of at least 16',
    ],
    [
      'a BAR that is not aligned',
      '0xe0000000',
      '0xe0801000',
      '26 BAR 0 of 0000:00:02.0: 0xe0801000 is not a multiple of its size',
    ],
    [
      'overlapping BARs',
      '0xe0400000',
      '0xe0010000',
      '33 BAR 0 of 0000:00:14.0 overlaps BAR 0 of 0000:00:02.0 (lines 26 and 33)',
    ],
    [
      'a BAR over RAM',
      '0xe0400000',
      '0x10000000',
      '33 BAR 0 of 0000:00:14.0 (0x10000000–0x1000ffff) lies over RAM 0x100000–0x3fffffff',
    ],
    [
      'phantom functions where there is no room for them',
      '    name: usb',
      '    name: usb\n    phantomStride: 3',
      '30 `phantomStride` cannot be 3',
    ],
    ['an unknown address width', 'agaw: 39', 'agaw: 40', '15 `agaw` cannot be 40'],
    ['a unit without devices', 'devices: [0000:00:02.0]\n', 'devices: []\n', '14 IOMMU unit 0 covers no device'],
    ['two units of one number', 'id: 1', 'id: 0', '17 IOMMU unit 0 is already on line 14'],
  ])('%s', (_, from, to, problem) => {
    expect(mistakes(from, to)).toEqual([problem]);
  });

  it('a device that no unit covers', () => {
    expect(mistakes('    includeAll: true\n', '    devices: [0000:00:02.0]\n')).toEqual([
      '19 0000:00:02.0 is already in the scope of unit 0',
      '28 no IOMMU unit covers 0000:00:14.0',
    ]);
  });

  it('a map without RAM', () => {
    const text = good.replaceAll('usable', 'unusable');
    expect(() => parseHost(text, 'h.yaml')).toThrow(/^h\.yaml:4:3: no usable RAM in the memory map/);
  });

  it('a file that is not there', () => {
    expect(() => loadHost('hosts/none.yaml')).toThrow(OperatorError);
    expect(() => loadHost('hosts/none.yaml')).toThrow('hosts/none.yaml: no such file');
  });

  it('several mistakes at once, all of them', () => {
    try {
      parseHost(good.replace('0xe0400000', '0x10000000').replace('memoryMb: 256', 'memoryMb: 9999'), 'h.yaml');
      expect.unreachable();
    } catch (error) {
      expect(error instanceof OperatorError && error.problems.map((p) => p.line)).toEqual([9, 33]);
    }
  });
});

describe('shipped hosts', () => {
  const files = readdirSync('hosts').filter((f) => f.endsWith('.yaml'));

  it.each(files)('%s loads, and its heap is whole frames inside its RAM, less what Xen keeps', (file) => {
    const host = loadHost(`hosts/${file}`);
    expect(`${host.name}.yaml`).toBe(file);
    const config = hostConfig(host, resolvePolicies({}));
    const heap = config.heapRanges.reduce((sum, r) => sum + r.end - r.start, 0);
    const ram = host.memoryMap.reduce((sum, r) => (r.type === 'usable' ? sum + r.end + 1 - r.start : sum), 0);
    expect(heap * 4096).toBeLessThanOrEqual(ram - host.xenReservedMb * 2 ** 20);
    expect(heap * 4096).toBeGreaterThan(ram - (host.xenReservedMb + 2) * 2 ** 20);
    for (const range of config.heapRanges) expect(range.end).toBeLessThanOrEqual(config.frames);
    expect(config.devices.every((d) => config.units.some((u) => u.id === d.unit))).toBe(true);
  });

  it('hold one on which EPT and IOMMU can share tables and one on which they cannot', () => {
    const canShare = (file: string): boolean => {
      const host = loadHost(`hosts/${file}`);
      return host.iommuUnits.every((u) => host.ept.superpages.every((size) => u.caps.superpages.includes(size)));
    };
    expect(canShare('seed-2014-haswell.yaml')).toBe(false);
    expect(canShare('hp-haswell-16g.yaml')).toBe(false);
    expect(canShare('seed-2015-broadwell.yaml')).toBe(true);
    expect(canShare('asus-x507uar-8g.yaml')).toBe(true);
  });

  it('a heap limit takes memory away from the top', () => {
    const host = { ...parseHost(good, 'h.yaml'), heapLimitMb: 512 };
    const { heapRanges } = hostConfig(host, resolvePolicies({}));
    expect(heapRanges).toEqual([{ start: 0x100, end: 0x100 + 512 * 256 }]);
  });
});

it('answers any damaged file with a description or an OperatorError, never with anything else', () => {
  const texts = readdirSync('hosts').map((f) => readFileSync(`hosts/${f}`, 'utf8'));
  const junk = fc.oneof(
    fc.string(),
    fc.constantFrom('{', ']', '&a', '*a', ': ', '- ', '0x', '~', '!!map', '\t', '\n  - '),
  );
  const damage = fc.record({
    text: fc.constantFrom(...texts),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    cut: fc.nat(40),
    junk,
  });
  fc.assert(
    fc.property(damage, ({ text, at, cut, junk: insert }) => {
      const from = Math.floor(at * text.length);
      try {
        parseHost(text.slice(0, from) + insert + text.slice(from + cut), 'f.yaml');
      } catch (error) {
        expect(error).toBeInstanceOf(OperatorError);
      }
    }),
    { numRuns: 300 },
  );
});
