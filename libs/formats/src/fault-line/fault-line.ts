// Lines about faults and refusals, read: each into one event, and the lines that belong to the one before (a fault's reason, the
// crash after it) joined to it. Owns the reading; spellings.ts owns the texts, the causes*.ts files what they mean.
import { hexNumber, type LineProblem, textLines } from '../text-line.ts';
import type { FaultEvent } from './fault-event.ts';
import { type Spelling, spellings } from './spellings.ts';

export interface FaultReading {
  readonly events: readonly FaultEvent[];
  /** Lines that no spelling fits, as far as they are not empty. */
  readonly unread: readonly { readonly line: number; readonly text: string }[];
  readonly problems: readonly LineProblem[];
}

type Groups = Readonly<Record<string, string | undefined>>;

/** Dates, host names and levels in front of a message, outermost first. */
const PREFIXES = [
  /^\[?\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+\]?\s+/,
  /^[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d \S+ \S+:\s+/,
  /^<\d>/,
  /^\(XEN\)\s*/,
  /^\[ *\d+\.\d+\]\s*/,
  /^\(XEN\)\s*/,
];

/** What Linux's flag word of an AMD event holds (AMD IOMMU specification, event log). */
const AMD_PRESENT = 0x10;
const AMD_WRITE = 0x20;
const AMD_PERMISSION = 0x40;

export function readFaultLines(text: string): FaultReading {
  const problems: LineProblem[] = [];
  const events: FaultEvent[] = [];
  const unread: { line: number; text: string }[] = [];
  for (const line of textLines(text, problems)) {
    if (line.text.trim() === '') continue;
    const event = readLine(line.text, line.number);
    if (event === null) unread.push({ line: line.number, text: line.text.trim() });
    else if (!joined(events, event)) events.push(event);
  }
  return { events, unread, problems };
}

function readLine(whole: string, line: number): FaultEvent | null {
  const text = PREFIXES.reduce((rest, prefix) => rest.replace(prefix, ''), whole.trim());
  const uptime = /\[ *(\d+\.\d+)\]/.exec(whole)?.[1];
  for (const spelling of spellings) {
    const groups = spelling.pattern.exec(text)?.groups ?? (spelling.pattern.test(text) ? {} : null);
    if (groups !== null) return eventOf(spelling, groups, text, line, uptime === undefined ? null : Number(uptime));
  }
  return null;
}

function eventOf(
  { kind, by }: Spelling,
  groups: Groups,
  text: string,
  line: number,
  uptime: number | null,
): FaultEvent {
  const flags = groups.amdFlags === undefined ? null : Number.parseInt(groups.amdFlags, 16);
  const domain = groups.domain ?? groups.domain2;
  const reason = groups.reason ?? /\[fault reason ((?:0x)?[0-9a-f]+)\]/i.exec(text)?.[1];
  return {
    kind,
    by,
    device: deviceOf(groups),
    address: groups.address === undefined ? null : (hexNumber(groups.address) ?? null),
    wideAddress: wideDigits(groups.address),
    access: flags === null ? accessOf(groups.access) : (flags & AMD_WRITE) === 0 ? 'read' : 'write',
    reason: reason === undefined ? null : reasonOf(reason, by),
    detail: flags === null ? detailOf(groups, text) : amdDetail(flags),
    range: rangeOf(groups),
    domain: domain === undefined || !/^\d+$/.test(domain) ? null : Number(domain),
    figures: figuresOf(groups),
    uptime,
    text,
    line,
  };
}

const wideDigits = (digits: string | undefined): string | null =>
  digits === undefined || hexNumber(digits) !== undefined ? null : digits.replace(/^0+/, '').toLowerCase();

/** libxl drops leading zeros; Xen's older AMD line has the raw number. */
function deviceOf(groups: Groups): string | null {
  const id = groups.deviceId;
  if (id !== undefined) {
    const raw = Number.parseInt(id, 16) % 65536;
    return sbdfText('0', (raw >> 8).toString(16), ((raw >> 3) & 0x1f).toString(16), String(raw & 7));
  }
  const parts = (groups.device ?? groups.device2)?.split(/[:.]/) ?? [];
  const [fn, slot, bus, segment = '0'] = parts.toReversed();
  return fn === undefined || slot === undefined || bus === undefined ? null : sbdfText(segment, bus, slot, fn);
}

const sbdfText = (segment: string, bus: string, slot: string, fn: string): string =>
  `${segment.padStart(4, '0')}:${bus.padStart(2, '0')}:${slot.padStart(2, '0')}.${fn}`.toLowerCase();

const accessOf = (word: string | undefined): 'read' | 'write' | null =>
  word === undefined ? null : word.toLowerCase() === 'read' ? 'read' : 'write';

/** Xen's is hexadecimal; Linux's is decimal unless it says 0x. */
const reasonOf = (text: string, by: FaultEvent['by']): number =>
  by === 'Xen' || text.startsWith('0x') ? Number.parseInt(text, 16) : Number.parseInt(text, 10);

const detailOf = (groups: Groups, text: string): string | null =>
  groups.detail ?? groups.detail2 ?? /\[fault reason [^\]]*\]\s*(.+)$/i.exec(text)?.[1] ?? null;

function amdDetail(flags: number): string {
  if ((flags & AMD_PRESENT) === 0) return 'no page is mapped there';
  return (flags & AMD_PERMISSION) === 0 ? 'a page is mapped there' : 'a page is mapped there without that right';
}

function rangeOf(groups: Groups): FaultEvent['range'] {
  const base = groups.base ?? groups.base2;
  const limit = groups.limit ?? groups.limit2;
  if (base === undefined || limit === undefined) return null;
  const range = { base: hexNumber(base), limit: hexNumber(limit) };
  return range.base === undefined || range.limit === undefined ? null : { base: range.base, limit: range.limit };
}

const DECIMAL = [
  'tot',
  'ents',
  'running',
  'target',
  'cache',
  'want',
  'max',
  'errno',
  'group',
  'count',
  'pages',
] as const;

function figuresOf(groups: Groups): Record<string, number> {
  const figures: Record<string, number> = {};
  for (const name of DECIMAL) {
    const digits = groups[name];
    if (digits !== undefined) figures[name] = Number(digits);
  }
  for (const name of ['gfn', 'mfn', 'dfn', 'flags'] as const) {
    const value = groups[name] === undefined ? undefined : hexNumber(groups[name]);
    if (value !== undefined) figures[name] = value;
  }
  return figures;
}

/** After these Xen ends the domain (unless it is dom0), and says so in lines of its own. */
const CRASHING: ReadonlySet<FaultEvent['kind']> = new Set([
  'pod-exhausted',
  'iommu-map-failed',
  'iommu-unmap-failed',
  'iommu-flush-failed',
  'domain-crash',
]);

/** A reason belongs to the fault above it; the crash to what led to it. False: the event stands for itself. */
function joined(events: FaultEvent[], event: FaultEvent): boolean {
  const last = events.at(-1);
  if (last === undefined) return false;
  if (event.kind === 'fault-reason') {
    // Xen prints one reason for the run of faults of one unit above it.
    let taken = false;
    for (let index = events.length - 1; index >= 0; index--) {
      const fault = events[index];
      if (fault?.kind !== 'dma-fault' || fault.reason !== null) break;
      events[index] = { ...fault, reason: event.reason, detail: event.detail };
      taken = true;
    }
    return taken;
  }
  if (event.kind === 'interrupt-fault' && last.kind === 'interrupt-fault' && last.reason === null) {
    events[events.length - 1] = { ...last, reason: event.reason, detail: event.detail };
    return true;
  }
  return event.kind === 'domain-crash' && CRASHING.has(last.kind);
}
