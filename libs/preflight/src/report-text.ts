// The preflight as a person reads it: a verdict per device and per guest first, then what was found, worst first, then the tables it
// follows from. Owns the layout of the text only.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { type DeviceReport, isBridge } from './device-report.ts';
import type { Finding, Severity } from './finding.ts';
import { type GuestReport, mapRows } from './guest-report.ts';
import { bdfText, isSingle } from './machine.ts';
import type { PreflightReport } from './preflight.ts';
import { counted, MIB, rangeText, sizeText, wholePages } from './ranges.ts';

const MARKS: Readonly<Record<Severity, string>> = { blocker: '✗', warning: '!', info: '·' };
const DEVICE_MARKS: Readonly<Record<DeviceReport['verdict'], string>> = {
  assignable: '✓',
  'relaxed only': '!',
  'not assignable': '✗',
  unclear: '?',
  'not for guests': '·',
};
const GUEST_MARKS: Readonly<Record<GuestReport['verdict'], string>> = {
  starts: '✓',
  'starts, with warnings': '!',
  'does not start': '✗',
};
const NAME_WIDTH = 44;
const VERDICT_WIDTH = 14;

export interface TextOptions {
  /** Commands for the questions that only a run answers. */
  readonly scenarios: readonly string[];
  /** Also devices without anything to tell, and all lines that will be printed. */
  readonly full: boolean;
}

export function preflightText(report: PreflightReport, options: TextOptions): string {
  return [
    ...headLines(report),
    ...deviceLines(report, options.full),
    ...guestLines(report),
    ...findingLines(report.findings),
    ...rangeLines(report),
    ...report.guests.flatMap(layoutLines),
    ...groupLines(report),
    ...section('To be seen in a run, with this host and its guests', options.scenarios),
  ].join('\n');
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, ...lines];

function headLines({ machine, sharing, findings, exit }: PreflightReport): string[] {
  const count = (severity: Severity): number => findings.filter((finding) => finding.severity === severity).length;
  const verdict = { 0: 'clean', 1: 'BLOCKED', 3: 'warnings only' }[exit];
  const numbers = `${counted(count('blocker'), 'blocker')}, ${counted(count('warning'), 'warning')}, ${counted(count('info'), 'note')}`;
  const { host, iommu } = machine;
  const tables =
    iommu === 'none' ? 'no IOMMU' : `${iommu}, tables ${sharing.shared ? 'shared with the CPU' : 'of its own'}`;
  const ram = host.memoryMap.reduce(
    (sum, { start, end, type }) => (type === 'usable' ? sum + end + 1 - start : sum),
    0,
  );
  return [
    `${host.name}: ${verdict} (${numbers})`,
    `  ${sizeText(Math.round(ram / MIB) * MIB)} RAM, ${tables}, ${counted(host.devices.length, 'device')} known`,
  ];
}

function deviceLines({ devices, machine, guests }: PreflightReport, full: boolean): string[] {
  const bridges = new Set(machine.host.devices.filter(isBridge).map(({ sbdf }) => sbdf));
  const wanted = new Set(guests.flatMap(({ config }) => (config?.pci ?? []).map(pciSbdf)));
  const isWanted = ({ sbdf }: DeviceReport): boolean => wanted.has(sbdf);
  const others = devices.filter(({ sbdf }) => !bridges.has(sbdf));
  const shown = others.filter(
    (d) => full || d.ranges.length > 0 || isWanted(d) || (d.verdict !== 'assignable' && others.length <= 4),
  );
  const rest = others.filter((d) => !shown.includes(d));
  const lines = shown.flatMap((device) => deviceLine(device, full || isWanted(device)));
  const byVerdict = Map.groupBy(rest, ({ verdict, why }) => `${verdict}: ${why}`);
  for (const [verdict, same] of byVerdict)
    lines.push(
      `  ${DEVICE_MARKS[same[0]?.verdict ?? 'assignable']} ${verdict}: ${same.map(({ bdf }) => bdf).join(' ')}`,
    );
  for (const text of new Set(
    machine.ranges.flatMap(({ scopes }) => scopes.filter((scope) => !isSingle(scope)).map(({ text: t }) => t)),
  )) {
    const ranges = machine.ranges
      .filter(({ scopes }) => scopes.some((scope) => scope.text === text))
      .map((range) => rangeText(wholePages(range)));
    lines.push(`  · ${text}, listed here or not: assignable with ${ranges.join(', ')} mapped one to one`);
  }
  if (bridges.size > 0) lines.push(`  · bridges, not for guests: ${[...bridges].map(bdfText).join(' ')}`);
  return section('Devices', lines);
}

const clipped = (text: string, width: number): string =>
  text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);

function deviceLine(device: DeviceReport, full: boolean): string[] {
  const { bdf, name, verdict, why, upstreamBridge, strict, relaxed, linux, ranges } = device;
  const lines = [
    `  ${DEVICE_MARKS[verdict]} ${bdf}  ${clipped(name, NAME_WIDTH)} ${verdict.padEnd(VERDICT_WIDTH)} ${why}`,
  ];
  if (upstreamBridge !== null && full) lines.push(`      path: ${upstreamBridge} → ${bdf}`);
  if (ranges.length === 0) return lines;
  const others = [...new Set(ranges.flatMap(({ sharedWith }) => sharedWith))];
  if (others.length > 0) lines.push(`      shared with ${others.join(', ')}`);
  if (!full) return verdict === 'relaxed only' ? [...lines, `      strict:  ${strict.lines[0]}`] : lines;
  lines.push(`      strict:  ${strict.what}`, ...strict.lines.map((line) => `               ${line}`));
  lines.push(`      relaxed: ${relaxed.what}`, ...relaxed.lines.map((line) => `               ${line}`));
  if (linux.length > 0) lines.push(`      Linux:   ${linux[0]}`);
  return lines;
}

function guestLines({ guests }: PreflightReport): string[] {
  return section(
    'Guests',
    guests.flatMap((guest) => {
      const { name, file, verdict, why, changes, memory } = guest;
      const lines = [`  ${GUEST_MARKS[verdict]} ${name} (${file}): ${verdict}: ${why}`];
      for (const { line, effect } of changes) lines.push(`      try  ${line}   ${effect}`);
      if (memory) {
        const pod = memory.pod ? `, populated on demand: ${counted(memory.pod.debtPages, 'page')} owed` : '';
        lines.push(
          `      memory ${memory.memoryMib} of ${memory.maxmemMib} MiB${pod}; needs ${memory.neededMib} MiB of the host`,
        );
        if (memory.pod) lines.push(...memory.pod.whoTouches.map((who, i) => `        ${i + 1}. ${who}`));
        lines.push(`      ballooning ${memory.balloon.verdict}: ${memory.balloon.why}`);
      }
      return lines;
    }),
  );
}

function findingLines(findings: readonly Finding[]): string[] {
  const told = findings.filter(({ code }) => code !== 'INPUT-ASSUMED');
  const alike = Map.groupBy(told, ({ code, message, remedy }) => `${code} ${message} ${remedy}`);
  return [
    ...section('Findings', [...alike.values()].flatMap(findingText)),
    ...section(
      'Assumed, because nothing given tells it',
      findings.filter(({ code }) => code === 'INPUT-ASSUMED').map(({ message }) => `  · ${message}`),
    ),
  ];
}

/** The same finding of several subjects is told once. */
function findingText(same: readonly Finding[]): string[] {
  const [first] = same;
  if (!first) return [];
  const { code, severity, message, remedy } = first;
  const subjects = [...new Set(same.map(({ subject }) => subject))].join(', ');
  const evidence = [...new Set(same.flatMap((finding) => finding.evidence))];
  return [
    `  ${MARKS[severity]} ${code}  ${subjects}: ${message}`,
    ...evidence.map((line) => `      ${line}`),
    `      → ${remedy}`,
  ];
}

function rangeLines({ ranges, machine }: PreflightReport): string[] {
  const known = machine.mapKnown ? '' : ' (the host’s memory map is not known)';
  return section(
    `Reserved ranges in the host’s memory, page by page${known}`,
    ranges.length === 0
      ? []
      : ranges.flatMap(({ name, place, devices, pages }) => [
          `  ${name}  ${place}, for ${devices.join(', ') || 'no device that is told'}`,
          ...pages.map((run) => `      ${run}`),
        ]),
  );
}

function layoutLines({ name, layout }: GuestReport): string[] {
  if (!layout) return [];
  const rows = mapRows(layout);
  if (rows.length === 0) return [];
  const hidden = layout.rdms
    .filter(({ policy }) => policy === 'invalid')
    .map(({ start }) => `  hidden from it: the reserved region at ${start.toString(16)}`);
  return section(`What ${name} sees: memory map and BARs, as planned`, [...rows.map((row) => `  ${row}`), ...hidden]);
}

function groupLines({ groups }: PreflightReport): string[] {
  return section(
    'Groups: who can write what',
    groups.flatMap(({ name, members, who }) => [
      `  ${name}: ${members.map(bdfText).join(', ')}`,
      ...who.map(({ policy, what }) => `      ${policy}: ${what}`),
    ]),
  );
}
