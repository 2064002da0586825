// Findings about the machine itself: what was assumed, firmware's table, each reserved range page by page, whether Xen would use the
// IOMMU at all. Knows no guest.
import { PAGE_SIZE } from '#model/frames/addresses';
import { type Finding, findingCode } from './finding.ts';
import { bdfText, covers, isSingle, type Machine, type ReservedRange, scopeCount } from './machine.ts';
import { pageRuns, rangeName, runText } from './placed-range.ts';
import type { PlanningView } from './planning-host.ts';
import { bytesOf, counted, sizeText, wholePages } from './ranges.ts';
import { linuxBrokenRmrr, type XenBoot } from './xen-boot.ts';

export function hostFindings(machine: Machine, view: PlanningView, boot: XenBoot): Finding[] {
  return [
    ...iommuFindings(machine, boot),
    ...tableFindings(machine, boot),
    ...machine.ranges.flatMap((range) => scopeFindings(machine, range)),
    ...pathFindings(machine),
    ...ownerFindings(machine),
    ...inputFindings(machine),
    ...sharingFindings(machine, view),
  ];
}

function inputFindings({ assumptions, complaints }: Machine): Finding[] {
  return [
    ...complaints.map(
      (message): Finding => ({
        code: 'INPUT-COMPLAINT',
        severity: 'warning',
        subject: 'input',
        message,
        evidence: [],
        remedy: 'look at the place that is named; give another dump or log if it is damaged',
      }),
    ),
    ...assumptions.map(
      ({ about, text }): Finding => ({
        code: 'INPUT-ASSUMED',
        severity: 'info',
        subject: `input (${about})`,
        message: text,
        evidence: [],
        remedy: 'give the file that tells it: --dmar, --dmesg or --lspci',
      }),
    ),
  ];
}

function iommuFindings({ iommu, tableFile }: Machine, boot: XenBoot): Finding[] {
  if (boot.iommuOn) return [];
  const broken = boot.lines.length > 0;
  return [
    {
      code: 'IOMMU-OFF',
      severity: 'blocker',
      subject: 'host',
      message: broken
        ? 'Xen gives up the IOMMU while it reads firmware’s table: no device can be assigned'
        : 'there is no IOMMU: no device can be assigned',
      evidence: boot.lines.slice(-4).map((line) => `(XEN) ${line}`),
      remedy: broken
        ? `check that table and log are of the same machine; then newer firmware, or replace ${tableFile ?? 'the table'} at boot (a region that firmware forgot can be given with \`rmrr=\`, a wrong one cannot be taken away)`
        : iommu === 'none'
          ? 'switch VT-d or AMD-Vi on in firmware’s set-up, and give its table with --dmar'
          : 'give the machine’s DMAR or IVRS table',
    },
  ];
}

/** What the table's own checks say, with the pages of the range that it is about. */
function tableFindings(machine: Machine, boot: XenBoot): Finding[] {
  return machine.tableFindings.map((finding): Finding => {
    const code = findingCode(finding.code);
    const range = machine.ranges.find(({ place }) =>
      new RegExp(`offset 0x${finding.offset.toString(16)}(?![0-9a-f])`).test(place),
    );
    const placed = code.endsWith('-IN-RAM') || code.endsWith('-NOT-RESERVED');
    const runs = range && placed ? pageRuns(machine, range).map(runText) : [];
    const linux = range?.kind === 'RMRR' && placed ? linuxBrokenRmrr(range).map((line) => `Linux: ${line}`) : [];
    const words = range ? xenAbout(range, boot) : [];
    return {
      code,
      severity: finding.severity,
      subject: range ? rangeName(range) : 'host',
      message: finding.what.replace(/^(RMRR|IVMD) \d+: /, ''),
      evidence: [
        `offset 0x${finding.offset.toString(16)}${machine.tableFile ? ` of ${machine.tableFile}` : ''}`,
        ...runs,
        ...words,
        ...linux,
      ],
      remedy: finding.remedy,
    };
  });
}

/** Of Xen's console, the lines that complain about this range. */
function xenAbout(range: ReservedRange, { lines }: XenBoot): string[] {
  const bounds = [
    `0x${Math.floor(range.start / 4096)
      .toString(16)
      .padStart(3, '0')}`,
    range.start.toString(16),
  ];
  return lines
    .filter(
      (line) =>
        /not \(entirely\)|can't be converted|incorrect|Overlapping/.test(line) &&
        bounds.some((bound) => line.includes(bound)),
    )
    .map((line) => `(XEN) ${line}`);
}

function scopeFindings(machine: Machine, range: ReservedRange): Finding[] {
  const subject = rangeName(range);
  const findings: Finding[] = [];
  const add = (
    code: Finding['code'],
    severity: Finding['severity'],
    message: string,
    evidence: string[],
    remedy: string,
  ): void => {
    findings.push({ code, severity, subject, message, evidence: [range.place, ...evidence], remedy });
  };
  if (machine.tableFindings.length === 0 && scopeCount(range) > 1) {
    const devices = range.scopes.map(({ first }) => bdfText(first)).join(', ');
    add(
      'RMRR-SHARED',
      'info',
      `shared by ${counted(scopeCount(range), 'device')}`,
      [devices],
      'Xen assigns one of them only with rdm_policy=relaxed (else -EPERM): give all of them to one guest',
    );
  }
  if (machine.tableFindings.length === 0 && range.kind === 'RMRR') {
    const whole = wholePages(range);
    const pages = `mapped are ${whole.start.toString(16)}–${whole.end.toString(16)}`;
    const beside = (page: string): string =>
      `whole pages are mapped, so the device reaches what lies beside the region on its ${page} page`;
    if (range.start % PAGE_SIZE !== 0) {
      add('RMRR-BASE-UNALIGNED', 'warning', 'base not 4K aligned', [pages], beside('first'));
    }
    if ((range.end + 1) % PAGE_SIZE !== 0) {
      add('RMRR-LIMIT-UNALIGNED', 'warning', 'limit+1 not 4K aligned', [pages], beside('last'));
    }
  }
  for (const wide of range.scopes.filter((scope) => !isSingle(scope))) {
    const known = machine.host.devices.map(({ sbdf }) => sbdf).filter((sbdf) => covers(range, sbdf));
    const buses = `buses ${bdfText(wide.first).slice(0, 2)}–${bdfText(wide.last).slice(0, 2)}`;
    const message = `it is for ${wide.text} (${buses}): each of them keeps ${sizeText(bytesOf(wholePages(range)))} mapped one to one wherever it goes`;
    const which = known.length === 0 ? 'no device of these buses is listed' : `here: ${known.map(bdfText).join(', ')}`;
    add(
      'IVMD-WIDE',
      'info',
      message,
      [which],
      'keep guest RAM off the range (rdm_policy=strict refuses otherwise); Linux’s vfio refuses these devices',
    );
  }
  findings.push(...absentFindings(machine, range), ...incompleteFindings(machine, range));
  return findings;
}

function pathFindings({ ranges }: Machine): Finding[] {
  const paths = [...new Set(ranges.flatMap(({ unresolved }) => unresolved))].sort();
  if (paths.length === 0) return [];
  const concerned = ranges.filter(({ unresolved }) => unresolved.length > 0);
  return [
    {
      code: 'RMRR-PATH-UNRESOLVED',
      severity: 'warning',
      subject: 'host',
      message: `${counted(concerned.length, 'reserved range')} name${concerned.length === 1 ? 's' : ''} devices by paths over bridges whose secondary buses are not known: these devices carry the ranges too`,
      evidence: [paths.join(', '), ...concerned.map((range) => `${rangeName(range)}: ${range.place}`)],
      remedy: 'give --lspci with the output of `lspci -vv` of the whole machine: bridges and their buses are in it',
    },
  ];
}

/** A log names ranges and, unless Xen was verbose, no devices. */
function ownerFindings({ ranges, tableFile }: Machine): Finding[] {
  if (tableFile !== null) return [];
  const unowned = ranges.filter((range) => scopeCount(range) === 0);
  if (unowned.length === 0) return [];
  return [
    {
      code: 'RMRR-OWNER-UNKNOWN',
      severity: 'warning',
      subject: 'host',
      message:
        'the log shows reserved regions, but not for which devices: any device may turn out to have one, shared or not',
      evidence: unowned.map((range) => `${rangeName(range)}: ${range.place}`),
      remedy: 'give the machine’s table: --dmar /sys/firmware/acpi/tables/DMAR',
    },
  ];
}

function absentFindings(machine: Machine, range: ReservedRange): Finding[] {
  if (!machine.devicesComplete) return [];
  const listed = new Set(machine.host.devices.map(({ sbdf }) => sbdf));
  const absent = range.scopes
    .filter((scope) => isSingle(scope) && !listed.has(scope.first))
    .map(({ first }) => bdfText(first));
  if (absent.length === 0) return [];
  const all = absent.length === range.scopes.length && range.unresolved.length === 0;
  return [
    {
      code: 'RMRR-DEVICE-ABSENT',
      severity: 'info',
      subject: rangeName(range),
      message: all
        ? 'none of its devices is there: Xen ignores it'
        : `${absent.join(', ')} of its devices ${absent.length === 1 ? 'is' : 'are'} not there`,
      evidence: [range.place],
      remedy: all
        ? 'nothing to do'
        : 'nothing to do; an absent device still counts when Xen looks whether the region is shared',
    },
  ];
}

/** Firmware that forgot functions: theirs fault when its own code in them writes to the range. */
function incompleteFindings(machine: Machine, range: ReservedRange): Finding[] {
  const cards = new Map<number, number[]>();
  for (const scope of range.scopes) {
    if (!isSingle(scope)) continue;
    const card = Math.floor(scope.first / 8);
    cards.set(card, [...(cards.get(card) ?? []), scope.first % 8]);
  }
  const forgotten = [...cards].flatMap(([card, functions]) =>
    functions.length < 2
      ? []
      : machine.host.devices
          .map(({ sbdf }) => sbdf)
          .filter((sbdf) => Math.floor(sbdf / 8) === card && !functions.includes(sbdf % 8)),
  );
  if (forgotten.length === 0) return [];
  const which = forgotten.map(bdfText).join(', ');
  return [
    {
      code: 'RMRR-SCOPE-INCOMPLETE',
      severity: 'warning',
      subject: rangeName(range),
      message: `it names several functions of a card but not ${which}: if their firmware uses the range too, they fault`,
      evidence: [range.place],
      remedy:
        'newer firmware; Xen’s option pci-phantom=BB:DD,1 lets forgotten functions use the tables of function 0 meanwhile',
    },
  ];
}

function sharingFindings({ iommu }: Machine, { sharing }: PlanningView): Finding[] {
  if (iommu === 'none' || sharing.shared) return [];
  return [
    {
      code: 'TABLES-SEPARATE',
      severity: 'info',
      subject: 'host',
      message: `the IOMMU has tables of its own: ${sharing.reason}`,
      evidence: [],
      remedy:
        'nothing to do: guests with devices cost more table memory (passthrough="sync_pt"), and every change of RAM is made twice',
    },
  ];
}
