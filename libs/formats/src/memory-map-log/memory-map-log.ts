// The host's memory map and its RMRRs as Linux or Xen printed them at boot. Owns the spellings of such lines, old and new, and
// the choice of the host's own map where a log has several; how the RMRRs lie in the map is rmrr-cover.ts.
import { OperatorError } from '../operator-error.ts';
import { hexNumber, type LineProblem, type TextLine, textLines } from '../text-line.ts';

export interface MapEntry {
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
  /** As printed: `usable`, `reserved`, `ACPI NVS`, `type 20`, … */
  readonly type: string;
  readonly line: number;
}

/**
 * Whose map it is. `xen` and `firmware` are the host's; `xen-initial` is the raw one that `e820-verbose` adds; the others are
 * what a kernel made of it, or was given as a guest.
 */
export type MapOrigin = 'xen' | 'xen-initial' | 'firmware' | 'modified' | 'user' | 'setup-data' | 'dom0';

export interface LoggedRmrr {
  readonly base: number;
  /** Inclusive. */
  readonly limit: number;
  /** Devices in its scope, where the log lists them (Xen, `iommu=verbose`). */
  readonly devices: readonly string[];
  readonly line: number;
}

export interface MemoryMapLog {
  /** The host's map; empty if the log has none. */
  readonly map: readonly MapEntry[];
  readonly origin: MapOrigin | null;
  readonly rmrrs: readonly LoggedRmrr[];
  readonly problems: readonly LineProblem[];
}

const HEX = '(?:0x)?([0-9a-f]+)';
const TYPE = '\\(([^()]*(?:\\([^()]*\\))?[^()]*)\\)';

/** Names under which Linux prints a map: the firmware's, and those derived from it. */
const linuxOrigins: Readonly<Record<string, MapOrigin>> = {
  'BIOS-e820': 'firmware',
  'BIOS-e801': 'firmware',
  'BIOS-88': 'firmware',
  modified: 'modified',
  user: 'user',
  'reserve setup_data': 'setup-data',
  Xen: 'dom0',
};
const LABEL = `(${Object.keys(linuxOrigins).join('|')})`;

/** Since Linux 3.4: inclusive end, type in words behind. */
const linuxLine = new RegExp(`${LABEL}: \\[mem ${HEX}-${HEX}\\] (.*)$`);
/** Before: exclusive end, type in parentheses. */
const oldLinuxLine = new RegExp(`${LABEL}: ${HEX} - ${HEX} ${TYPE}`);
/** Xen since 4.14: inclusive. */
const xenLine = new RegExp(`(?:^|\\s)\\[([0-9a-f]{8,16}), ([0-9a-f]{8,16})\\] ${TYPE}`);
/** Xen before: exclusive. */
const oldXenLine = new RegExp(`(?:^|\\s)([0-9a-f]{8,16}) - ([0-9a-f]{8,16}) ${TYPE}`);
const HEADING = /\b(Initial \S+ )?RAM map:\s*$|\bphysical RAM map:/;

/** An RMRR as the parser of the table announces it. */
const declarations = [
  new RegExp(`RMRR base: ${HEX} end: ${HEX}`), // Linux
  new RegExp(`RMRR region: base_addr(?:ess)? ${HEX} end_addr(?:ess)? ${HEX}`), // Xen, old
  /RMRR: \[([0-9a-f]+),\s*([0-9a-f]+)\]\s*$/, // Xen
];
/** An RMRR that a complaint names; the same one may have been announced as well. */
const mentions = [
  new RegExp(`RMRR address range ${HEX}\\.\\.${HEX} not in reserved memory`),
  new RegExp(`RMRR: \\[${HEX}, ?${HEX}\\] is not \\(entirely\\) in reserved memory`),
  new RegExp(`(?:RMRRs?) [([]${HEX}(?:,\\s*|-)${HEX}[)\\]]`),
];

const FOUND_RMRR = /found ACPI_DMAR_(\w+):/;
const SCOPE_DEVICE = / (?:endpoint|bridge): ([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/;

/** Far more than any machine has: what is beyond is damage, or a log of many boots. */
const MOST_ENTRIES = 1024;

interface FoundMap {
  readonly origin: MapOrigin;
  readonly entries: MapEntry[];
}

interface ReadEntry {
  readonly origin: MapOrigin;
  readonly start: string;
  readonly end: string;
  readonly type: string;
  readonly inclusive: boolean;
}

export function parseMemoryMapLog(text: string): MemoryMapLog {
  const problems: LineProblem[] = [];
  const maps = new MapReader(problems);
  const rmrrs = new RmrrReader(problems);
  for (const line of textLines(text, problems)) {
    if (!maps.read(line)) rmrrs.read(line);
  }
  const host = maps.hostMap();
  if (host?.origin === 'dom0') {
    problems.push({ line: host.entries[0]?.line ?? 1, message: "only dom0's own map is here, not the host's" });
  }
  return { map: host?.entries ?? [], origin: host?.origin ?? null, rmrrs: rmrrs.all(), problems };
}

/** A file that is to have a map or reserved ranges in it; throws OperatorError where it has neither. */
export function readMemoryMapLog(text: string, file: string): MemoryMapLog {
  const log = parseMemoryMapLog(text);
  if (log.map.length > 0 || log.rmrrs.length > 0) return log;
  const [first] = log.problems;
  throw new OperatorError([
    {
      file,
      ...(first && { line: first.line }),
      message: first?.message ?? 'no line of a memory map and none of an RMRR',
      remedy: 'give the boot messages from their beginning: `dmesg`, `journalctl -k`, `xl dmesg` or a serial log',
    },
  ]);
}

class MapReader {
  readonly #maps: FoundMap[] = [];
  readonly #problems: LineProblem[];
  #headed = false;
  #initial = false;

  constructor(problems: LineProblem[]) {
    this.#problems = problems;
  }

  read(line: TextLine): boolean {
    const headed = HEADING.exec(line.text);
    if (headed !== null) {
      this.#headed = true;
      this.#initial = headed[1] !== undefined;
      return true;
    }
    const found = readEntry(line.text);
    if (found === null) {
      if (/BIOS-e820: ?[[0-9]/.test(line.text)) this.#complain(line, 'a map entry that cannot be read');
      return false;
    }
    this.#add(line, found.origin === 'xen' && this.#initial ? { ...found, origin: 'xen-initial' } : found);
    return true;
  }

  /** Xen's own map before the firmware's, the first of several boots; what a kernel made of it only where there is no other. */
  hostMap(): FoundMap | undefined {
    const order: readonly MapOrigin[] = ['xen', 'xen-initial', 'firmware', 'setup-data', 'modified', 'user', 'dom0'];
    for (const origin of order) {
      const found = this.#maps.find((map) => map.origin === origin && map.entries.length > 0);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #add(line: TextLine, { origin, type, inclusive, ...bounds }: ReadEntry): void {
    const map = this.#mapFor(origin, bounds.start);
    const start = hexNumber(bounds.start);
    const bound = hexNumber(bounds.end);
    if (start === undefined || bound === undefined) {
      this.#complain(line, `addresses beyond 2^53 (${bounds.start}, ${bounds.end})`);
      return;
    }
    const end = inclusive ? bound : bound - 1;
    if (map.entries.length === MOST_ENTRIES) return;
    if (end < start) this.#complain(line, `an entry that ends (${bounds.end}) before it starts (${bounds.start})`);
    else map.entries.push({ start, end, type: type.trim(), line: line.number });
  }

  /** A heading, or the first entry's start coming again, begins another map: the log goes over several boots. */
  #mapFor(origin: MapOrigin, start: string): FoundMap {
    const last = this.#maps.findLast((map) => map.origin === origin);
    const again = last?.entries[0]?.start === hexNumber(start);
    if (last !== undefined && !again && !(this.#headed && last.entries.length > 0)) return last;
    this.#headed = false;
    const map: FoundMap = { origin, entries: [] };
    this.#maps.push(map);
    return map;
  }

  #complain(line: TextLine, message: string): void {
    this.#problems.push({ line: line.number, message });
  }
}

function readEntry(text: string): ReadEntry | null {
  const linux = linuxLine.exec(text) ?? oldLinuxLine.exec(text);
  if (linux !== null) {
    const [whole, label = '', start = '', end = '', type = ''] = linux;
    return { origin: linuxOrigins[label] ?? 'firmware', start, end, type, inclusive: whole.includes('[mem') };
  }
  const xen = xenLine.exec(text);
  const [, start = '', end = '', type = ''] = xen ?? oldXenLine.exec(text) ?? [];
  return start === '' ? null : { origin: 'xen', start, end, type, inclusive: xen !== null };
}

class RmrrReader {
  readonly #found: { base: number; limit: number; devices: string[]; line: number; announced: boolean }[] = [];
  readonly #problems: LineProblem[];
  /** Devices listed since the last structure began, until the range that they belong to is printed. */
  #scope: string[] | null = null;

  constructor(problems: LineProblem[]) {
    this.#problems = problems;
  }

  read(line: TextLine): void {
    const structure = FOUND_RMRR.exec(line.text)?.[1];
    if (structure !== undefined) this.#scope = structure === 'RMRR' ? this.#scopeAfter(line.number) : null;
    const device = SCOPE_DEVICE.exec(line.text)?.[1];
    if (device !== undefined) this.#scope?.push(device);
    if (this.#match(declarations, line, true)) this.#scope = null;
    else this.#match(mentions, line, false);
  }

  all(): LoggedRmrr[] {
    return this.#found.map(({ announced: _, ...rmrr }) => rmrr);
  }

  /** Without `iommu=verbose`, only a complaint names the range, on the line before its devices are listed. */
  #scopeAfter(line: number): string[] {
    const complained = this.#found.at(-1);
    return complained?.line === line - 1 && !complained.announced ? complained.devices : [];
  }

  #match(patterns: readonly RegExp[], line: TextLine, announced: boolean): boolean {
    for (const pattern of patterns) {
      const [, from = '', to = ''] = pattern.exec(line.text) ?? [];
      if (from === '') continue;
      const base = hexNumber(from);
      const limit = hexNumber(to);
      if (base === undefined || limit === undefined) {
        this.#problems.push({ line: line.number, message: `an RMRR beyond 2^53 (${from}, ${to})` });
        return true;
      }
      if (base > limit) {
        const message = `an RMRR whose limit (${to}) is below its base (${from})`;
        this.#problems.push({ line: line.number, message });
      }
      this.#add(base, limit, line.number, announced);
      return true;
    }
    return false;
  }

  #add(base: number, limit: number, line: number, announced: boolean): void {
    if (this.#found.length === MOST_ENTRIES) return;
    const known = this.#found.find((rmrr) => rmrr.base === base && rmrr.limit === limit);
    const devices = announced ? (this.#scope ?? []) : [];
    if (known === undefined || (announced && known.announced)) {
      this.#found.push({ base, limit, devices, line, announced });
    } else if (announced) {
      known.announced = true;
      if (known.devices.length === 0) known.devices = devices;
    }
  }
}
