// Whole preflights: what is found for machines and guests of known trouble, in which words, and how it ends.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadHost } from '#formats/host-file';
import { runMutants } from '../../formats/test-support/mutant-run.ts';
import {
  dmarTable,
  drhd,
  endpoint,
  ivhd,
  ivmd,
  ivrsTable,
  plainEntry,
  rmrr,
} from '../../formats/test-support/table-writer.ts';
import { firmwareInputsFor } from '../test-support/inputs.ts';
import { preflightTargets } from '../test-support/preflight-targets.ts';
import type { Finding } from './finding.ts';
import { machineOfFirmware } from './firmware/firmware-machine.ts';
import { machineOfHost } from './host-machine.ts';
import { type PreflightReport, preflight } from './preflight.ts';
import { preflightObject } from './report-json.ts';
import { preflightText } from './report-text.ts';
import { scenarioFiles } from './scenario-files.ts';

const haswell = machineOfHost(loadHost(resolve('hosts/seed-2014-haswell.yaml')));
const server = machineOfHost(loadHost(resolve('hosts/supermicro-x8dtn-120g.yaml')));
const UNIT = drhd(0xfed90000, [], { flags: 1 });
const LOG = `
BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
BIOS-e820: [mem 0x0000000000100000-0x00000000bfffffff] usable
BIOS-e820: [mem 0x00000000c0000000-0x00000000cfffffff] reserved
BIOS-e820: [mem 0x0000000100000000-0x000000043fffffff] usable
`;

it('a host description whose reserved region is not whole pages is told so, as a table is', () => {
  const ranges = haswell.ranges.map((range) => ({ ...range, start: range.start + 0x123, end: range.end - 0x10 }));
  const { findings } = preflight({ ...haswell, ranges }, []);
  for (const code of ['RMRR-BASE-UNALIGNED', 'RMRR-LIMIT-UNALIGNED']) {
    expect(findings.filter((finding) => finding.code === code)).toHaveLength(haswell.ranges.length);
  }
});

const guest = (lines: string, name = 'g'): { file: string; text: string } => ({
  file: `${name}.cfg`,
  text: `name = "${name}"\ntype = "hvm"\n${lines}\n`,
});
const codes = ({ findings }: PreflightReport, severity?: Finding['severity']): string[] =>
  findings.filter((finding) => severity === undefined || finding.severity === severity).map(({ code }) => code);
const finding = ({ findings }: PreflightReport, code: string): Finding => {
  const found = findings.find((f) => f.code === code);
  if (!found) throw new Error(`no ${code} among ${findings.map((f) => f.code).join(', ')}`);
  return found;
};
const ofTable = (
  table: Uint8Array,
  guests: Parameters<typeof preflight>[1] = [],
  rest: { log?: string; lspci?: string } = { log: LOG },
): PreflightReport => preflight(machineOfFirmware(firmwareInputsFor(table, rest)), guests);

describe('a guest with a device of its own reserved region', () => {
  it('is clean where libxl keeps its RAM off the region', () => {
    const report = preflight(haswell, [guest('memory = 4096\npci = [ "00:02.0" ]')]);
    expect([report.exit, report.guests[0]?.verdict]).toEqual([0, 'starts']);
  });

  it('is blocked where the boundary lets RAM stay there, with libxl’s line and the smallest hole', () => {
    const report = preflight(haswell, [guest('memory = 4096\nrdm_mem_boundary = 3072\npci = [ "00:02.0" ]')]);
    expect(report.exit).toBe(1);
    expect(finding(report, 'RDM-CONFLICT')).toMatchObject({
      evidence: expect.arrayContaining([expect.stringContaining('RDM conflict at 0xad000000.')]),
      remedy: expect.stringContaining('mmio_hole = 1328'),
    });
  });

  it('has warnings only under the relaxed policy: it starts and its device reaches its RAM', () => {
    const report = preflight(haswell, [
      guest('memory = 4096\nrdm_mem_boundary = 3072\npci = [ "00:02.0,rdm_policy=relaxed" ]'),
    ]);
    expect([report.exit, codes(report, 'warning')]).toEqual([3, ['RDM-IGNORED']]);
  });

  it('hears that xl drops a right rdm= string', () => {
    const report = preflight(haswell, [guest('memory = 512\nrdm = "strategy=host,policy=relaxed"')]);
    expect(codes(report, 'warning')).toEqual(['RDM-STRING-DROPPED']);
  });
});

describe('a shared reserved region', () => {
  const [usb, other] = ['00:1a.0', '00:1d.0'];
  it('lets a device go under the relaxed policy only, and Xen’s line is told', () => {
    const report = preflight(server, []);
    const device = report.devices.find(({ bdf }) => bdf === usb);
    expect(device).toMatchObject({
      verdict: 'relaxed only',
      strict: {
        allowed: false,
        lines: expect.arrayContaining([
          "(XEN) [VT-D] It's disallowed to assign 0000:00:1a.0 with shared RMRR at e5000 for d1.",
        ]),
      },
      relaxed: {
        allowed: true,
        lines: expect.arrayContaining([
          "(XEN) [VT-D] It's risky to assign 0000:00:1a.0 with shared RMRR at e5000 for d1.",
        ]),
      },
    });
  });

  it('given to two guests is memory that both write', () => {
    const relaxed = (name: string, bdf: string) => guest(`memory = 512\npci = [ "${bdf},rdm_policy=relaxed" ]`, name);
    const report = preflight(server, [relaxed('a', usb as string), relaxed('b', other as string)]);
    expect(codes(report)).toContain('RMRR-SHARED-SPLIT');
    const group = report.groups.find(({ kind }) => kind === 'reserved range');
    expect(group?.members).toHaveLength(8);
    expect(group?.who.map(({ policy }) => policy)).toEqual([
      'strict',
      'relaxed, all in one guest',
      'relaxed, in two guests',
      'relaxed, the rest in dom0',
    ]);
  });
});

describe('firmware that Xen cannot live with', () => {
  it.each([
    ['RMRR-IN-RAM', [rmrr(0xbffff000, 0xc0000fff, [endpoint(2)])], "page at 0xbffff can't be converted"],
    [
      'RMRR-OVERLAP',
      [rmrr(0xc0000000, 0xc0001fff, [endpoint(2)]), rmrr(0xc0001000, 0xc0002fff, [endpoint(0x14)])],
      'Overlapping RMRRs',
    ],
    ['RMRR-BASE-ABOVE-LIMIT', [rmrr(0xc0002000, 0xc0000fff, [endpoint(2)])], 'is incorrect!'],
  ])('%s: the IOMMU is off, and no device can be assigned', (code, regions, line) => {
    const report = ofTable(dmarTable([UNIT, ...regions]));
    expect(report.exit).toBe(1);
    expect(codes(report, 'blocker')).toEqual(expect.arrayContaining(['IOMMU-OFF', code]));
    expect(report.boot.lines.join('\n')).toContain(line);
    expect(report.boot.lines.at(-1)).toBe('Failed to parse ACPI DMAR.  Disabling VT-d.');
    expect(report.devices.every(({ verdict }) => verdict === 'not assignable')).toBe(true);
  });

  it('names functions of a card and forgets others', () => {
    const lspci = [0, 1, 4]
      .map((fn) => `04:00.${fn} Ethernet controller [0200]: Emulex OneConnect [19a2:0710]`)
      .join('\n');
    const scopes = [endpoint(0, 0, 4), endpoint(0, 1, 4)];
    const report = ofTable(dmarTable([UNIT, rmrr(0xc0000000, 0xc0000fff, scopes)]), [], {
      log: LOG,
      lspci: `${lspci}\n`,
    });
    expect(finding(report, 'RMRR-SCOPE-INCOMPLETE').message).toContain('04:00.4');
  });
});

describe('IVRS ranges of type 22h', () => {
  const table = ivrsTable([
    ivhd(0x11, 0xfd400000, [plainEntry(3, 8), plainEntry(4, 0xffff)]),
    ivmd(0x22, 8, [0, 0x0fff], 0x80000000, 0x1000),
  ]);
  const log = LOG.replace('0x00000000bfffffff] usable', '0x000000007fffffff] usable').replace(
    '0x00000000c0000000-',
    '0x0000000080000000-',
  );
  const lspci = `00:00.0 Host bridge [0600]: AMD Root Complex [1022:14e8]
03:00.0 VGA compatible controller [0300]: AMD Graphics [1002:7550] (prog-if 00 [VGA controller])
	Memory at d0000000 (64-bit, prefetchable) [size=256M]
`;
  it('are every listed device’s, and keep the RAM of a guest that gets one off', () => {
    const report = ofTable(table, [guest('memory = 3072\npci = [ "03:00.0" ]')], { log, lspci });
    const device = report.devices.find(({ bdf }) => bdf === '03:00.0');
    expect(device?.ranges).toMatchObject([{ place: 'IVRS offset 0x60, type 22h', sharedWith: ['00:00.0'] }]);
    expect(device?.linux[0]).toContain('Firmware has requested this device have a 1:1 IOMMU mapping');
    expect(report.guests[0]?.layout).toMatchObject({ refusal: { message: 'checking reserved device memory failed' } });
    expect(report.guests[0]?.changes.map(({ line }) => line)).toContain('mmio_hole = 2048');
  });
});

describe('memory', () => {
  it('below the maximum with a device is refused, and both ways out are planned', () => {
    const report = preflight(haswell, [guest('memory = 1024\nmaxmem = 2048\npci = [ "03:00.0" ]')]);
    expect(codes(report, 'blocker')).toEqual(['POD-REFUSED']);
    expect(report.guests[0]?.changes.map(({ line }) => line)).toEqual(['maxmem = 1024', 'memory = 2048']);
  });

  it('below the maximum without a device can kill the guest: how many pages are owed, and what is enough', () => {
    const report = preflight(haswell, [guest('memory = 1024\nmaxmem = 2048')]);
    expect([report.exit, codes(report, 'warning')]).toEqual([3, ['POD-CAN-DIE']]);
    expect(report.guests[0]?.memory?.pod).toMatchObject({ canDie: true, debtPages: 262144, enoughMib: 2048 });
  });

  it('of all guests together is compared with the host’s', () => {
    const report = preflight(haswell, [guest('memory = 5000', 'a'), guest('memory = 5000', 'b')]);
    expect(codes(report, 'warning')).toEqual(['HOST-MEMORY-SHORT']);
  });
});

describe('devices', () => {
  it('that the machine does not have, that are bridges, or that two guests want, block', () => {
    const guests = [
      guest('memory = 512\npci = [ "05:00.0", "00:1c.0", "03:00.0" ]', 'a'),
      guest('memory = 512\npci = [ "03:00.0" ]', 'b'),
    ];
    expect(codes(preflight(haswell, guests), 'blocker')).toEqual(
      expect.arrayContaining(['DEVICE-UNKNOWN', 'DEVICE-BRIDGE', 'DEVICE-TWICE']),
    );
  });

  it('that only the log hints at are unclear, not clean', () => {
    const text = `${LOG}DMAR: RMRR base: 0x000000c0000000 end: 0x000000c0000fff\nDMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c40660462 ecap f050da\n`;
    const lspci =
      '00:00.0 Host bridge [0600]: Intel Host [8086:0c00]\n00:14.0 USB controller [0c03]: Intel xHCI [8086:8c31] (prog-if 30 [XHCI])\n';
    const machine = machineOfFirmware({ name: 'x', log: { file: 'log', text }, lspci: { file: 'lspci', text: lspci } });
    const report = preflight(machine, []);
    expect(report.devices.find(({ bdf }) => bdf === '00:14.0')?.verdict).toBe('unclear');
    expect([report.exit, codes(report, 'warning')]).toEqual([3, ['RMRR-OWNER-UNKNOWN']]);
  });

  it('with a BAR of 16 GiB go above 4 GiB and need no larger hole', () => {
    const report = preflight(server, [guest('memory = 8192\npci = [ "08:00.0" ]')]);
    const bar = report.guests[0]?.layout?.bars.find(({ size }) => size === 2 ** 34);
    expect([report.exit, (bar?.address ?? 0) >= 2 ** 32]).toEqual([0, true]);
  });
});

describe('a configuration that xl refuses', () => {
  it('is a blocker with file and line', () => {
    const report = preflight(haswell, [{ file: 'g.cfg', text: 'name = "g"\ntype = "hvm"\nMemory = 512\n' }]);
    expect(finding(report, 'CFG-ERROR').evidence).toEqual(['g.cfg:3']);
    expect(report.exit).toBe(1);
  });
});

describe('the report', () => {
  const guests = [guest('memory = 4096\npci = [ "00:02.0" ]')];
  const report = preflight(haswell, guests);

  it('says verdicts first, then findings, then the tables they follow from', () => {
    const text = preflightText(report, { scenarios: [], full: false });
    const order = ['Devices', 'Guests', 'Findings', 'Reserved ranges', 'What g sees', 'Groups'].map((title) =>
      text.indexOf(`\n${title}`),
    );
    expect(order.every((at, i) => at > (order[i - 1] ?? 0))).toBe(true);
  });

  it('is plain data as an object', () => {
    const object = preflightObject(report, []);
    expect(JSON.parse(JSON.stringify(object))).toEqual(object);
  });

  it('fills scenarios in with this machine and these guests', () => {
    const files = scenarioFiles(report, guests).map(({ name }) => name);
    expect(files).toEqual(['host.yaml', 'g.cfg', 'g.yaml']); // no superpages in this host's IOMMU: nothing to split
  });
});

describe('damaged files', () => {
  const COUNT = Number(process.env.HOSTLOOM_PREFLIGHT_MUTANTS ?? 20);
  it(`${COUNT} of them end in a report or in an error that tells the place`, () => {
    const { failures, slowestMs } = runMutants({ targets: preflightTargets, count: COUNT });
    expect(failures).toEqual([]);
    expect(slowestMs).toBeLessThan(5000); // a busy machine; one takes some milliseconds
  });
});

describe('machines of HOSTLOOM_INPUTS', () => {
  const dir = process.env.HOSTLOOM_INPUTS ?? '';
  const list = (kind: string, ending: string): string[] =>
    existsSync(join(dir, kind)) ? readdirSync(join(dir, kind)).filter((f) => f.endsWith(ending)) : [];
  const text = (kind: string, file: string | undefined): string => readFileSync(join(dir, kind, file ?? ''), 'utf8');

  it.skipIf(dir === '')(
    'every log and listing with every configuration is reported on (set HOSTLOOM_INPUTS to their directory)',
    () => {
      const [logs, listings, cfgs] = [list('logs', '.txt'), list('lspci', '.txt'), list('cfg', '.cfg')];
      const reports = cfgs.flatMap((cfg, i) =>
        listings.map((listing, j) => {
          const log = { file: 'log', text: text('logs', logs[(i + j) % logs.length]) };
          const machine = machineOfFirmware({
            name: 'real',
            log,
            lspci: { file: 'lspci', text: text('lspci', listing) },
          });
          return preflight(machine, [{ file: cfg, text: text('cfg', cfg) }]);
        }),
      );
      expect(reports.every((report) => preflightText(report, { scenarios: [], full: true }).length > 0)).toBe(true);
    },
  );
});
