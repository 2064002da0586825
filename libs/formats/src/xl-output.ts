// What the xl command prints, word for word: domain list, host info, PCI lists, and the messages of its refusals. This
// file owns columns and wording only; it computes nothing about memory beyond the truncation that xl itself does.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { type DomainInfo, domInfoFlag, type PhysInfo } from '#model/hypercall/calls';

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

/** `SSSS:BB:DD.F`; lists of the hypercalls carry plain numbers, packed as an Sbdf is. */
const bdf = (sbdf: number): string => formatSbdf(sbdf as Sbdf);

/** The same without leading zeros, as one of libxl's messages has it (`0:0:1f.3`). */
function shortBdf(sbdf: number): string {
  return `${hex(Math.floor(sbdf / 65536), 1)}:${hex((sbdf >>> 8) & 0xff, 1)}:${hex((sbdf >>> 3) & 0x1f, 1)}.${sbdf & 7}`;
}

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

export interface LibxlPlace {
  readonly file: string;
  readonly line: number;
  readonly func: string;
}

/** A line of libxl's log; with a domid the text is prefixed by the domain. */
export function libxlLine(level: 'error' | 'warning', place: LibxlPlace, text: string, domid?: number): string {
  const about = domid === undefined ? '' : `Domain ${domid}:`;
  return `libxl: ${level}: ${place.file}:${place.line}:${place.func}: ${about}${text}`;
}

/** What xl itself says on stderr. */
export const xlMessage = {
  invalidDomain: (text: string, rc: number): string => `${text} is an invalid domain identifier (rc=${rc})`,
  noSuchDomain: (text: string): string => `Error: Domain '${text}' does not exist.`,
  invalidMemorySize: (text: string): string => `invalid memory size: ${text}`,
  cannotSetDynamicMax: (domid: number, text: string): string =>
    `cannot set domid ${domid} dynamic max memory to : ${text}`,
  cannotSetStaticMax: (domid: number, text: string): string =>
    `cannot set domid ${domid} static max memory to : ${text}`,
} as const;

/** Texts of libxl's refusals (the part after the place). */
export const libxlMessage = {
  podWithPassthrough: 'IOMMU required for device passthrough but not supported together with PoD',
  alreadyAssigned: (sbdf: number): string => `PCI device ${bdf(sbdf)} already assigned to a different guest?`,
  noIommu: (sbdf: number): string => `PCI device ${bdf(sbdf)} cannot be assigned - no IOMMU?`,
  notAssignable: (sbdf: number): string => `PCI device ${shortBdf(sbdf)} is not assignable`,
  assignDeviceFailed: 'xc_assign_device failed',
  dynamicAboveStatic: 'memory_dynamic_max must be less than or equal to memory_static_max',
  staticBelowDynamic: 'memory_static_max must be greater than or or equal to memory_dynamic_max',
} as const;
