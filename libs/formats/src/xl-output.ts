// What the xl command prints, word for word: domain list, host info, PCI lists, and the messages of its refusals. This
// file owns columns and wording only; it computes nothing about memory beyond the truncation that xl itself does.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { type DomainInfo, domInfoFlag, type PhysInfo } from '#model/hypercall/calls';
import type { LibxlPlace, LogLine } from '#model/toolstack/libxl-log';

const PAGES_PER_MIB = 256;
/** Letter of a shutdown code, in the order of SHUTDOWN_poweroff, reboot, suspend, crash, watchdog, soft_reset. */
const REASON_LETTERS = '-rscwS';

const toMib = (pages: number): number => Math.floor(pages / PAGES_PER_MIB);
const right = (value: number | string, width: number): string => `${value}`.padStart(width);
const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

/** Seconds with one decimal as C prints them: a tie goes to the even digit, and of all ties only x.25 differs from JS. */
function seconds(us: number): string {
  if (us % 1_000_000 === 250_000) return `${Math.floor(us / 1_000_000)}.2`;
  return (us / 1_000_000).toFixed(1);
}

/** The six letters of the State column. */
export function stateLetters(flags: number): string {
  const letter = (bit: number, on: string): string => ((flags & bit) !== 0 ? on : '-');
  const reason = (flags >>> 16) & 0xff;
  return [
    letter(domInfoFlag.running, 'r'),
    letter(domInfoFlag.blocked, 'b'),
    letter(domInfoFlag.paused, 'p'),
    letter(domInfoFlag.shutdown, 's'),
    (flags & domInfoFlag.shutdown) === 0 ? '-' : (REASON_LETTERS[reason] ?? '?'),
    letter(domInfoFlag.dying, 'd'),
  ].join('');
}

const LIST_HEADER = `Name${' '.repeat(40)}ID${' '.repeat(3)}Mem VCPUs\tState\tTime(s)`;

function listRow(info: DomainInfo): string {
  const mib = toMib(info.totPages + info.outstandingPages);
  return (
    `${info.name.padEnd(40)} ${right(info.domid, 5)} ${right(mib, 5)} ${right(info.onlineVcpus, 5)}` +
    `     ${stateLetters(info.flags)}  ${right(seconds(info.cpuTimeUs), 8)}`
  );
}

/** `xl list`. */
export function formatXlList(domains: readonly DomainInfo[]): string {
  return `${[LIST_HEADER, ...domains.map(listRow)].join('\n')}\n`;
}

/** `xl claims`: the same list, and what of its memory a domain has claimed but not yet got. */
export function formatXlClaims(domains: readonly DomainInfo[]): string {
  const rows = domains.map((info) => `${listRow(info)} ${right(toMib(info.outstandingPages), 5)}`);
  return `${[`${LIST_HEADER}  Claimed`, ...rows].join('\n')}\n`;
}

export interface XlInfoOptions {
  /** The host's name; without it no `host` line. */
  readonly host?: string;
  /** Whether PV guests can be built. */
  readonly pv?: boolean;
}

/** Capability words in xl's order. A directio word needs its guest kind's word. */
function virtCaps(info: PhysInfo, pv: boolean): string {
  const words: [string, boolean][] = [
    ['pv', pv],
    ['hvm', true],
    ['hvm_directio', info.iommu],
    ['pv_directio', pv && info.iommu],
    ['hap', info.hap],
    ['iommu_hap_pt_share', info.hapPtShare],
  ];
  return words.flatMap(([word, on]) => (on ? [word] : [])).join(' ');
}

/** `xl info`: the lines that speak of processors and memory; sizes in MiB, truncated. */
export function formatXlInfo(info: PhysInfo, options: XlInfoOptions = {}): string {
  const rows: [string, string | number][] = [
    ['nr_cpus', info.pcpus],
    ['virt_caps', virtCaps(info, options.pv ?? false)],
    ['total_memory', toMib(info.totalPages)],
    ['free_memory', toMib(info.freePages - info.outstandingClaims)],
    ['sharing_freed_memory', 0],
    ['sharing_used_memory', 0],
    ['outstanding_claims', toMib(info.outstandingClaims)],
  ];
  if (options.host !== undefined) rows.unshift(['host', options.host]);
  return rows.map(([key, value]) => `${key.padEnd(23)}: ${value}\n`).join('');
}

/** `xl info KEY`: what stands behind the colon in the lines that begin so. */
export function infoValue(text: string, key: string): string {
  const lines = text.split('\n').filter((line) => line.startsWith(key) && line.includes(': '));
  return lines.map((line) => `${line.slice(line.indexOf(': ') + 2)}\n`).join('');
}

/** `xl info -n`: one node, for the host is modelled as one. */
export function formatNumaInfo({ totalPages, freePages }: PhysInfo): string {
  const row = `${right(0, 4)}:    ${right(toMib(totalPages), 6)}     ${right(toMib(freePages), 6)}      10`;
  return `numa_info              :\nnode:    memsize    memfree    distances\n${row}\n`;
}

export interface Uptime {
  readonly domid: number;
  readonly name: string;
  readonly seconds: number;
}

function uptimeText(seconds: number, short: boolean): string {
  const [days, rest] = [Math.floor(seconds / 86_400), seconds % 86_400];
  const two = (n: number): string => `${n}`.padStart(2, '0');
  const hours = `${right(Math.floor(rest / 3600), 2)}:${two(Math.floor(rest / 60) % 60)}`;
  const time = short ? hours : `${hours}:${two(rest % 60)}`;
  return days === 0 ? time : `${days} day${days > 1 ? 's' : ''}, ${time}`;
}

/** `xl uptime`; with the time of day (HH:MM:SS) its short form. */
export function formatXlUptime(rows: readonly Uptime[], now: string | null): string {
  if (now !== null) {
    return rows
      .map(({ domid, name, seconds }) => ` ${now} up ${uptimeText(seconds, true)}, ${name} (${domid})\n`)
      .join('');
  }
  const lines = rows.map(
    ({ domid, name, seconds }) => `${name.padEnd(33)} ${right(domid, 4)} ${uptimeText(seconds, false)}`,
  );
  return `${[`${'Name'.padEnd(33)} ${'ID'.padStart(4)} Uptime`, ...lines].join('\n')}\n`;
}

/** `SSSS:BB:DD.F`; lists of the hypercalls carry plain numbers, packed as an Sbdf is. */
const bdf = (sbdf: number): string => formatSbdf(sbdf as Sbdf);

/** A device as a guest sees it: the slot and function it has in the guest, and the host's device behind it. */
export interface AssignedDevice {
  readonly vdevfn: number;
  readonly sbdf: number;
}

/** `xl pci-list DOMAIN`; null (the list cannot be read) prints nothing, not even the header. */
export function formatPciList(devices: readonly AssignedDevice[] | null): string {
  if (devices === null) return '';
  const rows = devices.map(({ vdevfn, sbdf }) => `${hex(vdevfn >>> 3, 2)}.${vdevfn & 7} ${bdf(sbdf)}\n`);
  return `Vdev Device\n${rows.join('')}`;
}

/** `xl pci-assignable-list`: each line ends in a blank. */
export const formatPciAssignableList = (sbdfs: readonly number[]): string =>
  sbdfs.map((sbdf) => `${bdf(sbdf)} \n`).join('');

/** A line of libxl's log; with a domid the text is prefixed by the domain. */
function libxlLine({ file, line, func }: LibxlPlace, { level, domid, text }: LogLine): string {
  const about = domid === null ? '' : `Domain ${domid}:`;
  return `libxl: ${level}: ${file}:${line}:${func}: ${about}${text}`;
}

/** One line of what libxl, the builder or xl itself says, as it stands on stderr. */
export function logText(line: LogLine): string {
  if (line.at) return libxlLine(line.at, line);
  return line.by === 'xl' ? line.text : `${line.by}: ${line.level}: ${line.text}`;
}

/** What xl itself says on stderr. */
export const xlMessage = {
  invalidDomain: (text: string, rc: number): string => `${text} is an invalid domain identifier (rc=${rc})`,
  noSuchDomain: (text: string): string => `Error: Domain '${text}' does not exist.`,
  invalidMemorySize: (text: string): string => `invalid memory size: ${text}`,
} as const;
