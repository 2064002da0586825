// Machines made of firmware's tables and logs: what is imported must be a host that loads as what was meant.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseDmar } from '#formats/acpi/dmar';
import { parseIvrs } from '#formats/acpi/ivrs';
import { tableBytes } from '#formats/acpi/table-source';
import { loadHost, parseHost } from '#formats/host-file';
import {
  dmarTable,
  drhd,
  endpoint,
  ivhd,
  ivmd,
  ivrsTable,
  plainEntry,
  rmrr,
} from '../../../formats/test-support/table-writer.ts';
import { firmwareInputsFor as inputs } from '../../test-support/inputs.ts';
import { hostYaml } from '../host-yaml.ts';
import { covers, type Machine } from '../machine.ts';
import { pageRuns, runText } from '../placed-range.ts';
import { machineOfFirmware } from './firmware-machine.ts';

const LOG = `
BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff] usable
BIOS-e820: [mem 0x00000000c0000000-0x00000000c0003fff] reserved
BIOS-e820: [mem 0x0000000100000000-0x000000023fffffff] usable
DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap c0000020660462 ecap f0101a
smpboot: Allowing 8 CPUs, 0 hotplug CPUs
Command line: placeholder dom0_mem=3G,max:3G
`;
const LISTING = `00:00.0 Host bridge [0600]: Intel Corporation Host Bridge [8086:0c00]
00:02.0 VGA compatible controller [0300]: Intel Corporation Graphics [8086:0412] (prog-if 00 [VGA controller])
	Memory at f7400000 (64-bit, non-prefetchable) [size=4M]
	Memory at e0000000 (64-bit, prefetchable) [size=256M]
00:1c.0 PCI bridge [0604]: Intel Corporation Root Port [8086:8c10]
	Bus: primary=00, secondary=03, subordinate=03, sec-latency=0
03:00.0 Ethernet controller [0200]: Intel Corporation I210 [8086:1533]
	Memory at <unassigned> (32-bit, non-prefetchable) [size=512K]
`;
const UNIT = drhd(0xfed90000, [], { flags: 1 });

const machine = (table: Uint8Array, rest: Parameters<typeof inputs>[1] = { log: LOG, lspci: LISTING }): Machine =>
  machineOfFirmware(inputs(table, rest));

describe('a machine of a DMAR table, a log and a listing', () => {
  it('has the map, the processors and the memory of the log, and the unit’s real capabilities', () => {
    const { host, assumptions } = machine(dmarTable([UNIT, rmrr(0xc0000000, 0xc0003fff, [endpoint(2)])]));
    expect(host).toMatchObject({
      pcpus: 8,
      dom0: { memoryMb: 3072 },
      rmrrs: [{ start: 0xc0000000, end: 0xc0003fff, devices: [0x10] }],
    });
    expect(host.iommuUnits).toMatchObject([{ includeAll: true, caps: { superpages: [], agaw: 48, psi: false } }]);
    expect(assumptions.map(({ about }) => about)).toEqual(['devices']);
  });

  it('numbers the BARs of a short listing, gives one without an address a free place, and says so', () => {
    const { host, assumptions } = machine(dmarTable([UNIT]));
    const [, igd, , card] = host.devices;
    expect(igd?.bars.map(({ index, hostAddr }) => [index, hostAddr])).toEqual([
      [0, 0xf7400000],
      [2, 0xe0000000],
    ]);
    expect(card).toMatchObject({ upstreamBridge: 0xe0, bars: [{ size: 0x80000 }] });
    expect(assumptions[0]?.text).toContain('03:00.0');
  });

  it('resolves the path of a reserved region over a bridge, and says where it cannot', () => {
    const path = {
      type: 1,
      path: [
        [0x1c, 0],
        [0, 0],
      ] as const,
    };
    const table = dmarTable([UNIT, rmrr(0xc0000000, 0xc0003fff, [path])]);
    expect(machine(table).host.rmrrs).toMatchObject([{ devices: [0x300] }]);
    expect(machine(table, { log: LOG }).ranges).toMatchObject([{ scopes: [], unresolved: ['00:1c.0/00.0'] }]);
  });

  it('leaves out what Xen would stumble over, and tells it page by page', () => {
    const m = machine(dmarTable([UNIT, rmrr(0xbffff000, 0xc0004fff, [endpoint(2)])]));
    expect(m.host.rmrrs).toEqual([]);
    expect(pageRuns(m, m.ranges[0] as (typeof m.ranges)[0]).map(runText)).toEqual([
      'bffff000–bfffffff RAM (1 page)',
      'c0000000–c0003fff reserved (4 pages)',
      'c0004000–c0004fff hole (1 page)',
    ]);
  });

  it('reserves the pages of a region that lies in a hole of the map, as Xen does', () => {
    const { host } = machine(dmarTable([UNIT, rmrr(0xd0000000, 0xd0000fff, [endpoint(2)])]));
    expect(host.memoryMap).toContainEqual({ start: 0xd0000000, end: 0xd0000fff, type: 'reserved' });
    expect(host.rmrrs).toHaveLength(1);
  });
});

describe('a machine of an IVRS table', () => {
  it('has a type 22h range for every device of its buses', () => {
    const unit = ivhd(0x11, 0xfd400000, [plainEntry(3, 8), plainEntry(4, 0xffff)]);
    const m = machine(ivrsTable([unit, ivmd(0x22, 8, [0, 0x02ff], 0xc0000000, 0x1000)]));
    expect(m).toMatchObject({ iommu: 'AMD-Vi', ranges: [{ kind: 'IVMD', access: 'rw' }] });
    const covered = m.host.devices
      .map(({ sbdf }) => sbdf)
      .filter((sbdf) => covers(m.ranges[0] as (typeof m.ranges)[0], sbdf));
    expect(covered).toEqual([0, 0x10, 0xe0]);
    expect(m.host.rmrrs).toMatchObject([{ devices: covered }]);
  });
});

describe('what is imported', () => {
  const again = (m: Machine): unknown => ({ ...parseHost(hostYaml(m), 'x.yaml'), file: m.host.file });

  it.each(['seed-2014-haswell', 'seed-2015-broadwell', 'supermicro-x8dtn-120g'])(
    '%s reads back as it was written',
    (name) => {
      const host = loadHost(resolve(`hosts/${name}.yaml`));
      const text = hostYaml({ ...machine(dmarTable([UNIT])), host, assumptions: [] });
      expect(parseHost(text, host.file)).toEqual(host);
    },
  );

  it('reads back as it was meant, with what is missing assumed', () => {
    const table = dmarTable([UNIT, rmrr(0xc0000000, 0xc0003fff, [endpoint(2)])]);
    for (const rest of [{ log: LOG, lspci: LISTING }, { log: LOG }, { lspci: LISTING }, {}]) {
      const m = machine(table, rest);
      expect(again(m)).toEqual(m.host);
    }
  });

  const given = process.env.HOSTLOOM_INPUTS;
  const dir = given ?? '';
  const list = (kind: string, ending: string): string[] =>
    existsSync(join(dir, kind)) ? readdirSync(join(dir, kind)).filter((file) => file.endsWith(ending)) : [];
  const text = (kind: string, file: string | undefined): string => readFileSync(join(dir, kind, file ?? ''), 'utf8');

  it.skipIf(given === undefined)(
    'of real tables, logs and listings reads back (set HOSTLOOM_INPUTS to their directory)',
    () => {
      const [logs, listings] = [list('logs', '.txt'), list('lspci', '.txt')];
      for (const [i, file] of list('dmar', '.dat').entries()) {
        const bytes = tableBytes(readFileSync(join(dir, 'dmar', file)), file.startsWith('ivrs') ? 'IVRS' : 'DMAR');
        const table = file.startsWith('ivrs')
          ? { ivrs: { file, table: parseIvrs(bytes) } }
          : { dmar: { file, table: parseDmar(bytes) } };
        const log = { file: 'log', text: text('logs', logs[i % logs.length]) };
        const lspci = { file: 'lspci', text: text('lspci', listings[i % listings.length]) };
        for (const rest of [{}, { log }, { lspci }, { log, lspci }]) {
          const m = machineOfFirmware({ name: 'real', ...table, ...rest });
          expect(again(m)).toEqual(m.host);
        }
      }
    },
  );
});
