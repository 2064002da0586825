// PCI devices as `lspci -v`, `-vv`, `-vvv` and `-nnk` list them, with or without `-D`. Owns the listing's spellings over the years;
// who may be given to a guest, and where a BAR goes, is decided elsewhere.
import { OperatorError } from './operator-error.ts';
import { hexNumber, type LineProblem, type TextLine, textLines } from './text-line.ts';

export interface LspciBar {
  /** Absent from the short listings (`-v`). */
  readonly region: number | null;
  /** Hexadecimal digits as listed, or `<unassigned>`, `<ignored>`. */
  readonly addr: string;
  /** `64-bit, prefetchable`, … */
  readonly kind: string;
  /** `[disabled]`, `[virtual]`, or nothing. */
  readonly flags: string;
  /** Bytes; null where the listing has none. */
  readonly size: number | null;
}

export interface LspciDevice {
  /** As listed: the segment only where it was shown. */
  readonly bdf: string;
  /** The whole heading after the address. */
  readonly description: string;
  /** Name of the class, or its four digits from a numeric listing. */
  readonly className: string;
  /** Four hexadecimal digits, where the listing has them (`-nn`, `-n`). */
  readonly classCode: string | null;
  /** `8086:1901`, where the listing has them. */
  readonly ids: string | null;
  readonly subsystem: string | null;
  /** Memory BARs; I/O ports take no memory. */
  readonly bars: readonly LspciBar[];
  readonly rom: { readonly addr: string; readonly size: number | null } | null;
  readonly bus: LspciBuses | null;
  /** What the bridge passes on, as listed; prefetchable ones begin with `pref`. */
  readonly windows: readonly string[];
  readonly iommuGroup: number | null;
  /** The listing breaks off before this function's group; that of the slot's other functions is taken. */
  readonly groupInferred: boolean;
  readonly driver: string | null;
  /** Kind of PCI Express function: `Endpoint`, `Root Port (Slot+)`, … */
  readonly express: string | null;
  readonly ats: boolean;
  readonly resizableBar: boolean;
  readonly sriov: boolean;
  /** Function level reset; null where the listing hides the capabilities. */
  readonly flReset: boolean | null;
  readonly line: number;
}

/** Bus numbers of a bridge: two hexadecimal digits each. */
export interface LspciBuses {
  readonly primary: string;
  readonly secondary: string;
  readonly subordinate: string;
}

export interface Lspci {
  readonly devices: readonly LspciDevice[];
  readonly problems: readonly LineProblem[];
}

type Draft = { -readonly [K in keyof LspciDevice]: LspciDevice[K] } & {
  readonly bars: LspciBar[];
  readonly windows: string[];
  /** Which capability the lines are about: BARs of virtual functions are not the device's own. */
  capability: string;
  /** Within DevCap: DevCtl below it names FLReset as well, but what it says is not whether the device can. */
  inDevCap: boolean;
};

const HEADING = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (\S.*)$/;
const BAR =
  /(?:Region (\d+): )?(\[virtual\] )?Memory at (\S+) \(([^)]*)\) ?((?:\[(?!size=)[^\]]*\] ?)*)(?:\[size=(\d+)([KMGT]?)\])?/;
const ROM = /Expansion ROM at (\S+)(?:.*?\[size=(\d+)([KMGT]?)\])?/;
const BUSES = /Bus: primary=([0-9a-f]{2}), secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})/;
const WINDOW = /^\s+(Prefetchable m|M)emory behind bridge: (\S+)/;
const CAPABILITY = /^\s+Capabilities: (?:\[[0-9a-f]+(?: v\d+)?\] )?(.*)$/;
const IDS = /\[([0-9a-f]{4}:[0-9a-f]{4})\]/;

const DISPLAY_CODES = new Set(['0300', '0301', '0302', '0380']);
const DISPLAY_NAME = /^(?:VGA compatible|XGA compatible|3D|Display) controller$/;

/** Graphics: what shows or computes pictures, by class. */
export const isDisplay = ({ classCode, className }: LspciDevice): boolean =>
  classCode === null ? DISPLAY_NAME.test(className) : DISPLAY_CODES.has(classCode);

export function parseLspci(text: string): Lspci {
  const problems: LineProblem[] = [];
  const devices: Draft[] = [];
  for (const line of textLines(text, problems)) {
    const heading = HEADING.exec(line.text);
    const current = devices.at(-1);
    if (heading !== null) devices.push(draftOf(heading, line));
    else if (current !== undefined && /^\s+\S/.test(line.text)) readDetail(current, line, problems);
  }
  inferGroups(devices);
  return { devices: devices.map(({ capability: _, inDevCap: __, ...device }) => device), problems };
}

/** A file that is to list devices; throws OperatorError where it lists none. */
export function readLspci(text: string, file: string): Lspci {
  const listing = parseLspci(text);
  if (listing.devices.length > 0) return listing;
  const [first] = listing.problems;
  throw new OperatorError([
    {
      file,
      line: first?.line ?? 1,
      message: first?.message ?? 'no device: none of its lines begins with an address such as 00:02.0',
      remedy: 'give the output of `lspci -vvv` (as root, so that the capabilities are shown)',
    },
  ]);
}

/**
 * Linux has every function in a group or none, and those of one slot in one group unless they keep themselves apart (ACS): a
 * function without one, beside others that have it, was cut off.
 */
function inferGroups(devices: readonly Draft[]): void {
  const bySlot = new Map<string, number>();
  const slotOf = ({ bdf }: Draft): string => bdf.slice(0, -2);
  for (const device of devices) {
    if (device.iommuGroup !== null && !bySlot.has(slotOf(device))) bySlot.set(slotOf(device), device.iommuGroup);
  }
  for (const device of devices) {
    const group = bySlot.get(slotOf(device));
    if (device.iommuGroup !== null || group === undefined) continue;
    device.iommuGroup = group;
    device.groupInferred = true;
  }
}

/** People mask serial numbers with a pattern that also hits the word after `Serial` in names; which word that was is known. */
const unmasked = (heading: string): string =>
  heading
    .replace(/^Serial <serial> controller/, 'Serial bus controller')
    .replace(/^Serial <serial> SCSI/, 'Serial Attached SCSI')
    .replaceAll(/(Intel Corporation (?:[^<]* )?)Serial <serial>/g, '$1Serial IO');

function draftOf([, bdf = '', rest = '']: RegExpExecArray, { number }: TextLine): Draft {
  const description = unmasked(rest.trim());
  const [, className = description, code, after = ''] =
    /^([^:[]*?)(?: \[([0-9a-f]{4})\])?: (.*)$/.exec(description) ?? [];
  const numeric = /^[0-9a-f]{4}$/.test(className);
  return {
    bdf,
    description,
    className,
    classCode: code ?? (numeric ? className : null),
    ids: (numeric ? /^[0-9a-f]{4}:[0-9a-f]{4}/.exec(after)?.[0] : IDS.exec(after)?.[1]) ?? null,
    subsystem: null,
    bars: [],
    rom: null,
    bus: null,
    windows: [],
    iommuGroup: null,
    groupInferred: false,
    driver: null,
    express: null,
    ats: false,
    resizableBar: false,
    sriov: false,
    flReset: null,
    line: number,
    capability: '',
    inDevCap: false,
  };
}

function readDetail(device: Draft, line: TextLine, problems: LineProblem[]): void {
  const { text } = line;
  const capability = CAPABILITY.exec(text)?.[1];
  if (capability !== undefined) {
    readCapability(device, capability);
    return;
  }
  const [, name = '', value = ''] = /^\s+([A-Z][A-Za-z ]*): (.*)$/.exec(text) ?? [];
  if (name === 'Kernel driver in use') device.driver = value.trim();
  else if (name === 'Subsystem') device.subsystem = value.trim();
  else readReset(device, text);
  const group = /IOMMU group:? (\d+)/.exec(text)?.[1];
  if (group !== undefined) device.iommuGroup = Number(group);
  readResources(device, line, problems);
}

function readCapability(device: Draft, text: string): void {
  device.capability = text;
  device.inDevCap = false;
  const express = /^Express (?:\(v\d+\) )?([^,]+)/.exec(text)?.[1];
  if (express !== undefined) device.express = express.trim();
  if (text.includes('Address Translation Service')) device.ats = true;
  if (/(?<!Virtual )Resizable BAR/.test(text)) device.resizableBar = true;
  if (text.includes('Single Root I/O Virtualization')) device.sriov = true;
}

function readReset(device: Draft, text: string): void {
  if (/^\s+DevCap:/.test(text)) device.inDevCap = true;
  else if (/^\s+Dev(?:Ctl|Sta)/.test(text)) device.inDevCap = false;
  const sign = (device.inDevCap ? /FLReset([+-])/ : /AFCap:.*FLR([+-])/).exec(text)?.[1];
  if (sign !== undefined) device.flReset = sign === '+';
}

function readResources(device: Draft, line: TextLine, problems: LineProblem[]): void {
  if (device.capability.includes('Single Root I/O Virtualization')) return;
  const bar = BAR.exec(line.text);
  if (bar !== null) {
    const [, region, virtual, addr = '', kind = '', flags = '', size, unit] = bar;
    if (/^[0-9a-f]+$/.test(addr) && hexNumber(addr) === undefined) {
      problems.push({ line: line.number, message: `a BAR beyond 2^53 (${addr})` });
    }
    device.bars.push({
      region: region === undefined ? null : Number(region),
      addr,
      kind,
      flags: [virtual, flags]
        .map((flag) => flag?.trim() ?? '')
        .filter((flag) => flag !== '')
        .join(' '),
      size: bytesOf(size, unit),
    });
    return;
  }
  const rom = ROM.exec(line.text);
  if (rom !== null) device.rom = { addr: rom[1] ?? '', size: bytesOf(rom[2], rom[3]) };
  const [, primary = '', secondary = '', subordinate = ''] = BUSES.exec(line.text) ?? [];
  if (primary !== '') device.bus = { primary, secondary, subordinate };
  const window = WINDOW.exec(line.text);
  if (window !== null) device.windows.push(`${window[1] === 'M' ? '' : 'pref '}${window[2]}`);
}

function bytesOf(digits: string | undefined, unit: string | undefined): number | null {
  if (digits === undefined) return null;
  const bytes = Number(digits) * 1024 ** ('KMGT'.indexOf(unit === undefined || unit === '' ? '-' : unit) + 1);
  return Number.isSafeInteger(bytes) ? bytes : null;
}
