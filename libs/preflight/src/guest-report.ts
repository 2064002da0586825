// One guest on the machine: does xl take its configuration, does libxl create it, what map and BARs does it get, do its devices come,
// and which smallest change helps. Owns how these are put together; every decision is the toolstack's or the firmware's.
import type { HostDevice } from '#formats/host-file';
import { logText } from '#formats/xl-output';
import type { Sbdf } from '#model/frames/addresses';
import type { E820Entry } from '#model/toolstack/e820';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { libxlAt, libxlError } from '#model/toolstack/libxl-log';
import { PCI_FUNC_ALL, pciSbdf } from '#model/toolstack/pci-spec';
import { parseRdmSpec } from '#model/toolstack/rdm-spec';
import { type DeviceReport, isBridge, rangesOf } from './device-report.ts';
import type { Finding } from './finding.ts';
import { groupReports } from './group-report.ts';
import { type GuestLayout, guestLayoutOf } from './guest-layout.ts';
import { barName, barRange, type LayoutProblem, layoutProblems } from './layout-problems.ts';
import { bdfText, isShared, type Machine, type ReservedRange } from './machine.ts';
import { type MemoryReport, memoryFindings, memoryReport, POD_WITH_DEVICE } from './memory-report.ts';
import { rangeName } from './placed-range.ts';
import type { PlanningView } from './planning-host.ts';
import { type ByteRange, overlap, rangeText, sizeText, wholePages } from './ranges.ts';
import { type Change, smallestChanges } from './smallest-change.ts';

export interface GuestFile {
  readonly file: string;
  readonly text: string;
}

export interface GuestReport {
  readonly file: string;
  readonly name: string;
  readonly verdict: 'starts' | 'starts, with warnings' | 'does not start';
  readonly why: string;
  readonly config: GuestConfig | null;
  readonly layout: GuestLayout | null;
  readonly memory: MemoryReport | null;
  readonly changes: readonly Change[];
  readonly findings: readonly Finding[];
}

const CLASS_OTHER_BRIDGE = 0x0680;
const E820_WORDS: Readonly<Record<number, string>> = { 1: 'RAM', 2: 'reserved', 3: 'ACPI', 4: 'NVS', 5: 'unusable' };

export function guestReport(
  machine: Machine,
  view: PlanningView,
  devices: readonly DeviceReport[],
  guest: GuestFile,
): GuestReport {
  const { file, text } = guest;
  const parsed = parseGuestConfig(text, file);
  const warned = parsed.warnings.map(
    (message): Finding => cfgFinding('CFG-WARNING', 'warning', file, message, 'correct the line'),
  );
  if (!parsed.ok) {
    const errors = parsed.errors.map(({ line, message, remedy }) =>
      cfgFinding(
        'CFG-ERROR',
        'blocker',
        file,
        message,
        remedy ?? 'correct the line',
        line === undefined ? [] : [`${file}:${line}`],
      ),
    );
    const why = `xl: ${parsed.errors[0]?.message ?? 'Failed to parse config'}`;
    return {
      file,
      name: file,
      verdict: 'does not start',
      why,
      config: null,
      layout: null,
      memory: null,
      changes: [],
      findings: [...errors, ...warned],
    };
  }
  const { config } = parsed;
  const layout = guestLayoutOf(view.host, config);
  const memory = memoryReport(config, layout);
  const changes = smallestChanges(view.host, config);
  const name = config.name;
  const subject = `guest ${name}`;
  const findings = [
    ...warned,
    ...rdmStringFindings(text, config, subject),
    ...(memory ? memoryFindings(config, memory, subject) : []),
    ...layoutFindings(machine, view, config, layout, changes, subject),
    ...passedFindings(machine, devices, config, subject),
  ];
  return { file, name, ...verdictOf(findings), config, layout, memory, changes, findings };
}

function cfgFinding(
  code: 'CFG-ERROR' | 'CFG-WARNING',
  severity: Finding['severity'],
  file: string,
  message: string,
  remedy: string,
  evidence: readonly string[] = [],
): Finding {
  return { code, severity, subject: `guest file ${file}`, message, evidence, remedy };
}

function verdictOf(findings: readonly Finding[]): Pick<GuestReport, 'verdict' | 'why'> {
  const first = (severity: Finding['severity']): Finding | undefined =>
    findings.find((finding) => finding.severity === severity);
  const blocker = first('blocker');
  if (blocker) return { verdict: 'does not start', why: blocker.message };
  const warning = first('warning');
  if (warning) return { verdict: 'starts, with warnings', why: warning.message };
  return { verdict: 'starts', why: 'nothing stands against it' };
}

/** xl's parser of rdm= has a test the wrong way round: the documented form with a policy is dropped silently. */
function rdmStringFindings(text: string, config: GuestConfig, subject: string): Finding[] {
  const written = /^\s*rdm\s*=\s*(["'])(.*?)\1/m.exec(text)?.[2];
  if (written === undefined || parseRdmSpec(written, { bugCompatible: true }).ok || !parseRdmSpec(written).ok)
    return [];
  const perDevice = config.pci.filter(({ rdmPolicy }) => rdmPolicy !== 'invalid').length;
  return [
    {
      code: 'RDM-STRING-DROPPED',
      severity: 'warning',
      subject,
      message: `rdm="${written}" is right as documented, but xl up to 4.23 drops the whole string without a word; what follows here takes it as documented`,
      evidence: [`${perDevice} of ${config.pci.length} devices have a policy of their own, which xl does read`],
      remedy: 'write rdm_policy=… at each device of pci= instead; rdm="strategy=host" alone is read',
    },
  ];
}

function layoutFindings(
  machine: Machine,
  view: PlanningView,
  config: GuestConfig,
  layout: GuestLayout,
  changes: readonly Change[],
  subject: string,
): Finding[] {
  const problems = layoutProblems(view.host, config, layout);
  const ignored = problems.some(({ code }) => code === 'RDM-IGNORED');
  return problems.flatMap((problem): Finding[] => {
    if (layout.refusal?.message === POD_WITH_DEVICE && config.pci.length > 0) return []; // told as POD-REFUSED, with its numbers
    if (problem.code === 'RMRR-SHARED-STRICT') return []; // told with the devices
    if (problem.code === 'RMRR-IDENTITY-BUSY' && problem.tolerated && ignored) return []; // the same, seen by Xen
    return [
      {
        code: problem.code,
        severity: problem.tolerated ? 'warning' : 'blocker',
        subject,
        message: problem.message,
        evidence: [...problem.evidence, ...placesOf(machine, problem)],
        remedy: remedyOf(problem, changes),
      },
    ];
  });
}

/** Where in firmware's table the regions of a problem stand. */
function placesOf(machine: Machine, { key, evidence }: LayoutProblem): string[] {
  const text = [key, ...evidence].join(' ');
  return machine.ranges
    .filter(({ start }) => new RegExp(`(?:^|[^0-9a-f])(?:0x)?${start.toString(16)}(?![0-9a-f])`).test(text))
    .map((range) => `${rangeName(range)} is ${range.place}`);
}

function remedyOf({ code }: LayoutProblem, changes: readonly Change[]): string {
  if (changes.length > 0) return changes.map(({ line, effect }) => `${line} (${effect})`).join('; or ');
  if (code === 'LIBXL-REFUSED') return 'change what the message names';
  if (code === 'BAR-OVER-RESERVED') return 'less memory, so that the BARs above 4 GiB lie elsewhere';
  return 'no mmio_hole, rdm_mem_boundary or memory that xl accepts helps; leave out the device, or the largest one';
}

function passedFindings(
  machine: Machine,
  devices: readonly DeviceReport[],
  config: GuestConfig,
  subject: string,
): Finding[] {
  const sbdfs = config.pci.map(pciSbdf);
  const groups = groupReports(machine);
  return config.pci.flatMap((pci) => {
    const sbdf = pciSbdf(pci);
    const report = devices.find((device) => device.sbdf === sbdf);
    if (!report || !machine.host.devices.some((device) => device.sbdf === sbdf))
      return unknownDevice(machine, sbdf, subject);
    const findings = [
      ...kindFindings(report, subject),
      ...pageFindings(machine, sbdf, sbdfs, subject),
      ...sharedFindings(machine, report, pci.rdmPolicy === 'relaxed', sbdfs, subject),
    ];
    for (const { kind, name, members } of groups) {
      const outside = members.filter((member) => !sbdfs.includes(member));
      if (kind === 'reserved range' || !members.includes(sbdf) || outside.length === 0) continue;
      if (pci.vfuncMask === PCI_FUNC_ALL && outside.every((member) => Math.floor(member / 8) === Math.floor(sbdf / 8)))
        continue;
      findings.push({
        code: 'DEVICE-GROUP',
        severity: kind === 'bridge' ? 'info' : 'warning',
        subject: `${subject}, device ${report.bdf}`,
        message: `${name} also has ${outside.map(bdfText).join(', ')}, which stay outside the guest`,
        evidence: [
          'a device of the group can reach a sibling’s BARs without the IOMMU seeing it, unless they are kept apart (ACS)',
        ],
        remedy: 'give the whole group to the guest, or make the others assignable and leave them unused',
      });
    }
    return findings;
  });
}

function unknownDevice(machine: Machine, sbdf: Sbdf, subject: string): Finding[] {
  const complete = machine.devicesComplete;
  return [
    {
      code: complete ? 'DEVICE-UNKNOWN' : 'DEVICE-GUESSED',
      severity: complete ? 'blocker' : 'warning',
      subject: `${subject}, device ${bdfText(sbdf)}`,
      message: complete
        ? 'the machine has no such device'
        : 'nothing that was given lists this device: its BARs and its reserved memory are not planned',
      evidence: complete
        ? [logText(libxlError(libxlAt.notAssignable, `PCI device ${shortName(sbdf)} is not assignable`, 1))]
        : [],
      remedy: complete
        ? `one of ${machine.host.devices
            .filter((d) => !isBridge(d))
            .map((d) => bdfText(d.sbdf))
            .slice(0, 12)
            .join(', ')}`
        : 'give --lspci with the output of `lspci -vv` of the whole machine',
    },
  ];
}

/** As libxl writes an address in this message: without leading zeros. */
const shortName = (sbdf: Sbdf): string =>
  [Math.floor(sbdf / 65536), (sbdf >> 8) & 0xff, (sbdf >> 3) & 0x1f].map((n) => n.toString(16)).join(':') +
  `.${sbdf & 7}`;

function kindFindings(report: DeviceReport, guest: string): Finding[] {
  const subject = `${guest}, device ${report.bdf}`;
  const findings: Finding[] = [];
  if (report.verdict === 'not for guests') {
    findings.push({
      code: 'DEVICE-BRIDGE',
      severity: 'blocker',
      subject,
      message: report.why,
      evidence: [report.name],
      remedy: 'name the device behind it',
    });
  }
  if (report.pciClass >>> 8 === CLASS_OTHER_BRIDGE) {
    findings.push({
      code: 'DEVICE-CLASS-0680',
      severity: 'blocker',
      subject,
      message: 'its class is 0680: hvmloader takes it for the power management of its own board and dies',
      evidence: ["(d1) *** HVMLoader assertion '(vendor_id == 0x8086) && (device_id == 0x7113)' failed at pci.c:206"],
      remedy: 'leave it out: it is part of the board, and no driver of a guest wants it',
    });
  }
  if (report.bars.length === 0 && report.verdict !== 'not for guests') {
    findings.push({
      code: 'BAR-UNKNOWN',
      severity: 'warning',
      subject,
      message: 'no memory BAR of it is known: its room in the guest was not planned',
      evidence: [report.name],
      remedy: 'give --lspci with the output of `lspci -vv` as root',
    });
  }
  if (report.flr === false) {
    findings.push({
      code: 'DEVICE-NO-FLR',
      severity: 'info',
      subject,
      message:
        'no function level reset: between two guests it is reset by power management or with its whole bus, if at all',
      evidence: [`libvirt: Unable to reset PCI device ${report.bdf}: no FLR, PM reset or bus reset available`],
      remedy: 'reboot the host if a second start of the guest finds the device hung',
    });
  }
  return findings;
}

/** BARs smaller than a page: the guest is given the page, whatever else lies in it. */
function pageFindings({ host }: Machine, sbdf: Sbdf, together: readonly Sbdf[], guest: string): Finding[] {
  const pagesOf = (device: HostDevice): ByteRange[] =>
    device.bars
      .filter(({ kind }) => kind !== 'io' && kind !== 'rom')
      .map(({ hostAddr, size }) => wholePages({ start: hostAddr, end: hostAddr + size - 1 }));
  const own = host.devices.find((device) => device.sbdf === sbdf);
  const pages = own ? pagesOf(own) : [];
  return host.devices.flatMap((other): Finding[] => {
    if (together.includes(other.sbdf)) return [];
    const shared = pages.find((page) => pagesOf(other).some((theirs) => overlap(page, theirs) !== null));
    if (!shared) return [];
    return [
      {
        code: 'DEVICE-PAGE-SHARED',
        severity: 'warning',
        subject: `${guest}, device ${bdfText(sbdf)}`,
        message: `a BAR lies in the same page of the host as one of ${bdfText(other.sbdf)}, which stays outside: the guest reaches both`,
        evidence: [rangeText(shared)],
        remedy: 'have the host place BARs at whole pages (Linux: pci=resource_alignment=), or give both to the guest',
      },
    ];
  });
}

/** One finding for all shared regions of a device. */
function sharedFindings(
  machine: Machine,
  report: DeviceReport,
  relaxed: boolean,
  together: readonly Sbdf[],
  guest: string,
): Finding[] {
  const shared = rangesOf(machine, report.sbdf).filter(isShared);
  if (shared.length === 0) return [];
  const outside = sharers(machine, report.sbdf, shared).filter((sbdf) => !together.includes(sbdf));
  const unresolved = shared.flatMap((range) => range.unresolved);
  const names = [...new Set([...outside.map(bdfText), ...unresolved])].join(', ');
  const [subject, evidence] = [
    `${guest}, device ${report.bdf}`,
    shared.map((range) => `${rangeName(range)}: ${range.place}`),
  ];
  const which = shared.map(rangeText).join(', ');
  if (relaxed) {
    const users = names === '' ? 'the other devices of this guest' : `${names}, outside the guest`;
    return [
      {
        code: 'RMRR-SHARED-RELAXED',
        severity: 'warning',
        subject,
        message: `its reserved ${which} are also used by ${users}: all of them can write there`,
        evidence: [...evidence, ...report.relaxed.lines.filter((line) => line.includes('risky'))],
        remedy:
          names === '' ? 'nothing more to do' : `give ${names} to the same guest, or keep dom0’s drivers off them`,
      },
    ];
  }
  const also = names === '' ? '' : `, and give ${names} to the same guest or leave them without a driver`;
  return [
    {
      code: 'RMRR-SHARED-STRICT',
      severity: 'blocker',
      subject,
      message: `Xen will refuse it: its reserved ${which} are shared, and its policy is strict (the default)`,
      evidence: [...evidence, ...report.strict.lines],
      remedy: `pci = [ '${report.bdf},rdm_policy=relaxed' ]${also}; firmware’s set-up may stop using the region (USB legacy support off)`,
    },
  ];
}

const sharers = (machine: Machine, sbdf: Sbdf, ranges: readonly ReservedRange[]): Sbdf[] =>
  machine.host.devices
    .map((device) => device.sbdf)
    .filter((other) => other !== sbdf && rangesOf(machine, other).some((range) => ranges.includes(range)));

/** Rows of the guest's map as a person reads them, with holes and with the BARs in them. */
export function mapRows({ e820, bars }: GuestLayout): string[] {
  const rows: { start: number; end: number; text: string }[] = e820
    .filter(({ size }) => size > 0)
    .map((entry) => ({
      ...bounds(entry),
      text: `${E820_WORDS[entry.type] ?? `type ${entry.type}`} (${sizeText(entry.size)})`,
    }));
  for (const bar of bars) {
    const range = bar.isIo ? null : barRange(bar);
    if (range) rows.push({ ...range, text: `${barName(bar)} (${sizeText(bar.size)})` });
  }
  return rows
    .sort((a, b) => a.start - b.start || a.end - b.end)
    .map(({ start, end, text }) => `${rangeText({ start, end })}  ${text}`);
}

const bounds = ({ addr, size }: E820Entry): { start: number; end: number } => ({ start: addr, end: addr + size - 1 });
