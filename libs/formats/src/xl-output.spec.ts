import { describe, expect, test } from 'vitest';
import { type DomainInfo, domInfoFlag, type PhysInfo } from '#model/hypercall/calls';
import { builderDetail, libxlAt, libxlError, libxlFailed, xlSays } from '#model/toolstack/libxl-log';
import {
  formatNumaInfo,
  formatPciAssignableList,
  formatPciList,
  formatXlClaims,
  formatXlInfo,
  formatXlList,
  formatXlUptime,
  infoValue,
  logText,
  stateLetters,
  xlMessage,
} from './xl-output.ts';

const domain = (over: Partial<DomainInfo>): DomainInfo => ({
  domid: 0,
  name: 'Domain-0',
  flags: domInfoFlag.running,
  totPages: 4096 * 256,
  maxPages: 4096 * 256,
  outstandingPages: 0,
  onlineVcpus: 4,
  cpuTimeUs: 0,
  devices: [],
  podEntries: 0,
  podCache: 0,
  ...over,
});

const physInfo: PhysInfo = {
  totalPages: 16 * 1024 * 256 + 255,
  freePages: 9 * 1024 * 256 + 100,
  scrubPages: 0,
  outstandingClaims: 1024 * 256,
  pcpus: 8,
  hap: true,
  iommu: true,
  hapPtShare: false,
};

describe('xl list', () => {
  test('header and rows stand in the columns of the real command', () => {
    const list = formatXlList([
      domain({ cpuTimeUs: 1_234_560_000 }),
      domain({
        domid: 12,
        name: 'win7',
        flags: domInfoFlag.hvm | domInfoFlag.blocked,
        totPages: 262112,
        onlineVcpus: 2,
      }),
    ]);
    expect(list).toBe(
      'Name                                        ID   Mem VCPUs\tState\tTime(s)\n' +
        'Domain-0                                     0  4096     4     r-----    1234.6\n' +
        'win7                                        12  1023     2     -b----       0.0\n',
    );
  });

  test('a claim not yet filled counts as memory, and xl claims names it', () => {
    const claimed = domain({ domid: 3, name: 'new', flags: domInfoFlag.paused, totPages: 256, outstandingPages: 512 });
    expect(formatXlList([claimed])).toContain('     3     3     4     --p---');
    expect(formatXlClaims([claimed])).toBe(
      'Name                                        ID   Mem VCPUs\tState\tTime(s)  Claimed\n' +
        'new                                          3     3     4     --p---       0.0     2\n',
    );
  });

  test('a name longer than its column pushes the rest to the right instead of being cut', () => {
    expect(formatXlList([domain({ name: 'x'.repeat(44) })])).toContain(`${'x'.repeat(44)}     0  4096`);
  });

  test('the fifth state letter is the reason of a shutdown, and only of a shutdown', () => {
    const crashed = domInfoFlag.shutdown | (3 << 16);
    expect(stateLetters(crashed)).toBe('---sc-');
    expect(stateLetters(crashed | domInfoFlag.paused | domInfoFlag.dying)).toBe('--pscd');
    expect([0, 1, 2, 3, 4, 5, 6].map((code) => stateLetters(domInfoFlag.shutdown | (code << 16))[4])).toEqual([
      ...'-rscwS?',
    ]);
    expect(stateLetters(domInfoFlag.running | (3 << 16))).toBe('r-----');
    expect(stateLetters(domInfoFlag.dying | domInfoFlag.paused)).toBe('--p--d');
  });

  test('processor seconds round as C does, a tie to the even digit', () => {
    const time = (us: number): string =>
      formatXlList([domain({ cpuTimeUs: us })])
        .trimEnd()
        .slice(-4);
    expect([250_000, 750_000, 1_250_000, 349_999, 350_001].map(time)).toEqual([' 0.2', ' 0.8', ' 1.2', ' 0.3', ' 0.4']);
  });
});

test('xl info pads its keys to one column, truncates to MiB and takes claims off the free memory', () => {
  expect(formatXlInfo(physInfo, { host: 'haswell' })).toBe(
    [
      'host                   : haswell',
      'nr_cpus                : 8',
      'virt_caps              : hvm hvm_directio hap',
      'total_memory           : 16384',
      'free_memory            : 8192',
      'sharing_freed_memory   : 0',
      'sharing_used_memory    : 0',
      'outstanding_claims     : 1024',
      '',
    ].join('\n'),
  );
});

test('capability words follow the hardware, and a directio word needs its kind of guest', () => {
  const caps = (over: Partial<PhysInfo>, pv = false): string | undefined =>
    /virt_caps +: (.*)/.exec(formatXlInfo({ ...physInfo, ...over }, { pv }))?.[1];
  expect(caps({ hapPtShare: true }, true)).toBe('pv hvm hvm_directio pv_directio hap iommu_hap_pt_share');
  expect(caps({ iommu: false, hap: false })).toBe('hvm');
});

describe('PCI lists', () => {
  const gpu = 0x0100; // 01:00.0
  const usb = 0x00a0; // 00:14.0

  test('pci-list shows the guest slot before the host device, and nothing at all when it cannot be read', () => {
    expect(formatPciList([{ vdevfn: 0x28, sbdf: gpu }])).toBe('Vdev Device\n05.0 0000:01:00.0\n');
    expect(formatPciList([{ vdevfn: 0x31, sbdf: 0x00a7 }])).toContain('06.1 0000:00:14.7');
    expect(formatPciList([])).toBe('Vdev Device\n');
    expect(formatPciList(null)).toBe('');
  });

  test('pci-assignable-list ends each line in a blank', () => {
    expect(formatPciAssignableList([usb, gpu])).toBe('0000:00:14.0 \n0000:01:00.0 \n');
  });
});

test("libxl's lines are word for word what a real Xen 4.17 printed", () => {
  const pod = 'IOMMU required for device passthrough but not supported together with PoD';
  expect(logText(libxlError(libxlAt.podWithPassthrough, pod))).toBe(
    'libxl: error: libxl_create.c:1195:libxl__domain_config_setdefault: IOMMU required for device passthrough but not supported together with PoD',
  );
  expect(logText(libxlError(libxlAt.notAssignable, 'PCI device 0:0:1f.3 is not assignable', 5))).toBe(
    'libxl: error: libxl_pci.c:1677:libxl__device_pci_add: Domain 5:PCI device 0:0:1f.3 is not assignable',
  );
});

test("a failed call is followed by the words for its error; what is not libxl's has other heads", () => {
  expect(logText(libxlFailed(libxlAt.assignFailed, 'xc_assign_device failed', -18, 3))).toBe(
    'libxl: error: libxl_pci.c:1529:pci_add_dm_done: Domain 3:xc_assign_device failed: Invalid cross-device link',
  );
  expect(logText(builderDetail('no claim'))).toBe('domainbuilder: detail: no claim');
  expect(logText(xlSays('as it stands'))).toBe('as it stands');
});

test("xl's own messages", () => {
  expect(xlMessage.invalidMemorySize('12q')).toBe('invalid memory size: 12q');
  expect(xlMessage.invalidDomain('x', -6)).toBe('x is an invalid domain identifier (rc=-6)');
  expect(xlMessage.noSuchDomain('7')).toBe("Error: Domain '7' does not exist.");
});

test('xl info of a key prints its value alone; -n has one node', () => {
  const text = formatXlInfo(physInfo, { host: 'haswell' });
  expect(infoValue(text, 'free_memory')).toBe('8192\n');
  expect(infoValue(text, 'nothing')).toBe('');
  expect(formatNumaInfo(physInfo)).toBe(
    'numa_info              :\nnode:    memsize    memfree    distances\n   0:     16384       9216      10\n',
  );
});

test('xl uptime has days only where there are some', () => {
  const rows = [
    { domid: 0, name: 'Domain-0', seconds: 3 * 86_400 + 4 * 3600 + 65 },
    { domid: 12, name: 'win7', seconds: 59 },
  ];
  expect(formatXlUptime(rows, null)).toBe(
    `Name${' '.repeat(29)}   ID Uptime\nDomain-0${' '.repeat(25)}    0 3 days,  4:01:05\nwin7${' '.repeat(29)}   12  0:00:59\n`,
  );
  expect(formatXlUptime(rows, '10:20:30')).toBe(
    ' 10:20:30 up 3 days,  4:01, Domain-0 (0)\n 10:20:30 up  0:00, win7 (12)\n',
  );
});
