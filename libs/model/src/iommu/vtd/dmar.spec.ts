import { describe, expect, it } from 'vitest';
import { recorder, smallConfig } from '../../../test-support/p2m-fixture.ts';
import { bootHost } from '../../boot/boot-host.ts';
import { type Sbdf, sbdf } from '../../frames/addresses.ts';
import { createHost, Host, mainCpu } from '../../host.ts';
import type { HostConfig, RmrrConfig } from '../../host-config.ts';
import { parseDmar } from './dmar.ts';

const GPU = sbdf(0, 0, 2, 0);
const GONE = sbdf(0, 0, 9, 0);
const PAGE = 4096;
/** RAM below 48 MiB, firmware's tables and a hole above. */
const memoryMap: HostConfig['memoryMap'] = [
  { addr: 0, size: 0x3000 * PAGE, type: 1 },
  { addr: 0x3000 * PAGE, size: 0x10 * PAGE, type: 2 },
  { addr: 0x3010 * PAGE, size: 0x10 * PAGE, type: 4 },
];
const region = (startPfn: number, endPfn: number, ...devices: Sbdf[]): RmrrConfig => ({
  startPfn,
  endPfn,
  devices: devices.length > 0 ? devices : [GPU],
});
const parsed = (rmrrs: readonly RmrrConfig[], rest: Partial<HostConfig> = {}) =>
  parseDmar(smallConfig({ memoryMap, heapRanges: [{ start: 0x10, end: 0x3000 }], rmrrs, ...rest }));

describe('reserved regions of firmware', () => {
  it('are kept, and said as iommu=verbose says them', () => {
    const { config, lines } = parsed([region(0x3000, 0x3003)]);
    expect(config.rmrrs).toEqual([region(0x3000, 0x3003)]);
    expect(lines).toEqual([
      '[VT-D]found ACPI_DMAR_RMRR:',
      '[VT-D] endpoint: 0000:00:02.0',
      '[VT-D]  RMRR: [03000000,03003fff]',
    ]);
  });

  it('are ignored when none of their devices is there, and kept when one is', () => {
    const { config, lines } = parsed([region(0x3000, 0x3000, GONE), region(0x3001, 0x3001, GONE, GPU)]);
    expect(config.rmrrs.map(({ startPfn }) => startPfn)).toEqual([0x3001]);
    expect(lines).toContain(
      "[VT-D] Non-existent device (0000:00:09.0) is reported in RMRR [3000000, 3000fff]'s scope!",
    );
    expect(lines).toContain('[VT-D] Ignore RMRR [3000000, 3000fff] as no device under its scope is PCI discoverable!');
    expect(parsed([region(0x3005, 0x3001, GONE)]).config.iommuEnabled).toBe(true);
  });

  it('become reserved where the map knows nothing of them; other types than RAM are good enough', () => {
    const { config, lines } = parsed([region(0x300e, 0x3022)]);
    expect(config.iommuEnabled).toBe(true);
    expect(lines[1]).toBe('RMRR: [0x300e, 0x3022] is not (entirely) in reserved memory');
    expect(config.memoryMap.at(-1)).toEqual({ addr: 0x3020 * PAGE, size: 3 * PAGE, type: 2 });
  });

  it.each([
    ['upside down', [region(0x3003, 0x3001)], '[VT-D] RMRR [3003000, 3001fff] is incorrect!'],
    [
      'overlapping',
      [region(0x3000, 0x3003), region(0x3003, 0x3004)],
      '[VT-D]Overlapping RMRRs [3000000,3003fff] and [3003000,3004fff]',
    ],
    ['over RAM', [region(0x2fff, 0x3001)], "RMRR: page at 0x2fff can't be converted"],
  ])('%s end VT-d for this boot', (_, rmrrs, line) => {
    const { config, lines } = parsed(rmrrs);
    expect([config.iommuEnabled, config.rmrrs]).toEqual([false, []]);
    expect(lines.slice(-2)).toEqual([line, 'Failed to parse ACPI DMAR.  Disabling VT-d.']);
  });
});

describe('rmrr= on Xen’s command line', () => {
  const user = (rmrrOption: string) => {
    const { config, lines } = parsed([region(0x3000, 0x3000)], { rmrrOption });
    return { regions: config.rmrrs.slice(1), said: lines.slice(3) };
  };

  it('adds regions, in the words of Xen', () => {
    const { regions, said } = user('3002-3005=0:0:02.0;0x3008=00:02.0,00:09.0');
    expect(regions).toEqual([region(0x3002, 0x3005), region(0x3008, 0x3008, GPU, GONE)]);
    expect(said.filter((line) => line.includes('Adding'))).toEqual([
      '[VT-D]Adding RMRR for 1 device ([0]: 0x10) range [3002-3005]',
      '[VT-D]Adding RMRR for 2 device ([0]: 0x10) range [3008-3008]',
    ]);
  });

  it('leaves out what makes no sense, and stops at what it cannot read', () => {
    expect(user('3005-3002=0:2.0')).toEqual({ regions: [], said: ['[VT-D]Invalid RMRR Range [3005-3002]'] });
    expect(user('3001-3011=0:2.0').said).toEqual(['[VT-D]RMRR range [3001-3011] exceeds 16 pages']);
    expect(user('3000-3002=0:2.0').said).toEqual(['[VT-D]Overlapping RMRRs: [3000-3002] and [3000-3000]']);
    expect(user('4001=0:2.0').said).toEqual(['[VT-D]Invalid pfn in RMRR range [4001-4001]']);
    expect(user('3001=0:9.0').regions).toEqual([]);
    expect(user('3001=0:2.0;what=0:2.0;3002=0:2.0').regions).toHaveLength(1);
    expect(
      user(Array.from({ length: 12 }, (_, n) => `${(0x2000 + n).toString(16)}=0:2.0`).join(';')).regions,
    ).toHaveLength(10);
  });

  it('takes the segment of the first device for those without one', () => {
    expect(parsed([], { rmrrOption: '3001=0000:00:02.0,0:9.0' }).config.rmrrs[0]?.devices).toEqual([GPU, GONE]);
  });
});

it('a host boots without IOMMU when its DMAR cannot be read, and says so', () => {
  const config = smallConfig({
    memoryMap,
    heapRanges: [{ start: 0x10, end: 0x3000 }],
    rmrrs: [region(0x2000, 0x2000)],
  });
  const log = recorder();
  const h = new Host(createHost(config), mainCpu(config), log);
  bootHost(h, { memoryPages: 4096, vcpus: 1 });
  expect(log.lines).toContain('Failed to parse ACPI DMAR.  Disabling VT-d.');
  expect(log.lines).toContain('I/O virtualisation disabled');
  expect(h.dom0.has('iommu')).toBe(false);
});
