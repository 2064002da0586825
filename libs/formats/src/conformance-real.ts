// Guests built by the running code beside what a real Xen gave them. Each guest goes the whole way: xl.cfg parser, libxl's
// defaults, domain builder over real hypercalls on a booted host, hvmloader, SeaBIOS, the guest kernel's first moments. What is
// compared is what came out: hvmloader's E820, the kernel's, xenstore's memory nodes, the Mem column of xl list.
//
// The real Xen was 4.17; the model is a later commit, and as documented where Xen has a bug. Such differences are rules with a
// name: the guest is built once more with the rule's switch, and only if then everything agrees is the difference explained.
import { bootGuest } from '#model/guest/boot';
import { defaultBalloon, type GuestSpec } from '#model/guest/guest-spec';
import { pvE820 } from '#model/guest/linux-e820';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import { type CreateOptions, createDomain, defaultCreateOptions } from '#model/toolstack/domain-builder';
import { type GuestConfig, parseGuestConfig, type RdmParser } from '#model/toolstack/guest-config';
import { isAssignable, makeAssignable } from '#model/toolstack/pci-assignment';
import { pciSbdf } from '#model/toolstack/pci-spec';
import type { Operation } from '#model/toolstack/ports';
import { type Difference, firstDifference, type Json } from './conformance/fields.ts';
import { type E820Row, entriesOf, hvmloaderRows, linuxRows, type RealGuest } from './conformance/real-guests.ts';
import { bootRealMachine, mibOf, type RealMachine } from './conformance/real-host.ts';
import { formatXlList } from './xl-output.ts';

const XL_LIST_MEM = 'xl_list_mem_mib';

interface Variant {
  readonly rdmParser: RdmParser;
  readonly acpiRegion: CreateOptions['acpiRegion'];
}

interface Rule {
  readonly name: string;
  readonly reason: string;
  /** The switch that gives the other behaviour. */
  readonly knob: string;
  readonly change: Partial<Variant>;
  applies(guest: RealGuest, config: GuestConfig): boolean;
}

export const versionRules: readonly Rule[] = [
  {
    name: 'rdm-parser-bug',
    reason:
      'xlu_rdm_parse takes every valid policy= for a mistake, and xl then drops the whole rdm= without a word (4.17 and later); here the key works as documented',
    knob: 'policy rdm-parser: verbatim, or --bug-compat',
    change: { rdmParser: 'verbatim' },
    applies: (guest) => guest.keys.has('rdm'),
  },
  {
    name: 'pvh-acpi-region-type',
    reason: "libxl 4.17 declares a PVH guest's ACPI tables as ACPI data (type 3), later versions as NVS (type 4)",
    knob: 'CreateOptions.acpiRegion: acpi',
    change: { acpiRegion: 'acpi' },
    applies: (_, config) => config.type === 'pvh',
  },
];

/** Everything of one guest that can be compared, in the words of the file. */
interface Observation {
  readonly hvmloaderE820: readonly E820Row[] | null;
  readonly kernelE820: readonly E820Row[] | null;
  readonly nodes: Readonly<Record<string, number | null>>;
}

function parseConfig(guest: RealGuest, rdmParser: RdmParser): GuestConfig {
  const parsed = parseGuestConfig(guest.text, `${guest.name}.cfg`, { rdmParser });
  if (!parsed.ok) throw new Error(parsed.errors.map(({ message }) => message).join('; '));
  return parsed.config;
}

/** Runs an operation to its end; nothing it pauses for matters here. */
function finish<R>(operation: Operation<R>): R {
  let step = operation.next();
  while (!step.done) step = operation.next({ ok: true });
  return step.value;
}

/**
 * A PV guest with e820_host sees the host's map, which the file does not hold. Its ranges that are not RAM pass libxl's
 * sanitiser unchanged, and host RAM shows as unusable: so the host's map is read back from what the guest saw, and what is
 * compared is what libxl put into it (the guest's own RAM, the gap behind it, the rest above 4 GiB).
 */
function hostMapSeenBy(guest: RealGuest, config: GuestConfig): readonly MemoryMapEntry[] | null {
  if (config.type !== 'pv' || !config.e820Host || guest.kernelE820 === null) return null;
  const isa = 0x100000;
  const ranges = entriesOf(guest.kernelE820)
    .filter(({ addr, type }) => addr >= isa && type !== 1)
    .map((entry) => ({ ...entry, type: entry.type === 5 ? (1 as const) : entry.type }));
  return ranges.length > 0 ? ranges : null;
}

function kernelSpec({ domid, build, e820 }: BuiltDomain): GuestSpec {
  const { config, xenstore } = build;
  return {
    domid,
    name: config.name,
    control: false,
    vcpus: config.vcpus,
    seed: domid,
    e820: config.type === 'pvh' ? null : e820,
    targetKb: xenstore.target,
    staticMaxKb: xenstore.staticMax,
    bootTouchMb: 0,
    allocation: 'scattered',
    balloon: defaultBalloon,
    foreignMapPlace: 'ballooned-hole',
    workloads: [],
    timeScale: 1,
  };
}

/** The map that the guest's kernel reports when it boots. */
function kernelMap({ host }: RealMachine, domain: BuiltDomain): readonly MemoryMapEntry[] {
  const { domid } = domain;
  const port = host.port(domid);
  if (domain.build.config.type === 'pv') {
    const pages = host.port(0).call({ op: 'getdomaininfo', domid }).info?.totPages ?? 0;
    return pvE820(port.call({ op: 'memory_map' }).entries ?? [], pages);
  }
  let seen: readonly MemoryMapEntry[] = [];
  bootGuest(kernelSpec(domain), port, {
    event: (name, data) => {
      if (name === 'e820' && 'entries' in data) seen = data.entries;
    },
  });
  return seen;
}

/** The Mem column of xl list's row. */
function listedMib({ host }: RealMachine, domid: number): number | null {
  const { info } = host.port(0).call({ op: 'getdomaininfo', domid });
  if (!info) return null;
  const row = formatXlList([{ ...info, name: 'guest' }]).split('\n')[1] ?? '';
  return Number(row.trim().split(/\s+/)[2]);
}

/** Builds the guest and looks at it. Throws with libxl's words if it is refused. */
function observe(guest: RealGuest, variant: Variant): Observation {
  const config = parseConfig(guest, variant.rdmParser);
  const memkb = Math.max(config.maxMemkb ?? 0, config.targetMemkb ?? 0);
  const machine = bootRealMachine(mibOf(memkb), hostMapSeenBy(guest, config));
  const { ports } = machine;
  for (const pci of config.pci) {
    const device = pciSbdf(pci);
    if (machine.devices.includes(device) && !isAssignable(ports, device)) makeAssignable(ports, device);
  }
  const built = finish(createDomain(ports, config, { ...defaultCreateOptions, acpiRegion: variant.acpiRegion }));
  if (!built.ok) throw new Error(`not built: ${built.message}`);
  const { domain } = built;
  const node = (key: string): number | null => {
    if (key === XL_LIST_MEM) return listedMib(machine, domain.domid);
    const text = ports.xenstore.read(domain.domid, `memory/${key}`);
    return text === null ? null : Number(text);
  };
  return {
    hvmloaderE820: domain.firmwareE820 && hvmloaderRows(domain.firmwareE820),
    kernelE820: guest.kernelE820 && linuxRows(kernelMap(machine, domain)),
    nodes: Object.fromEntries(Object.keys(guest.xenstore).map((key) => [key, node(key)])),
  };
}

export interface RealDifference extends Difference {
  /** What was compared. */
  readonly item: string;
}

interface Comparison {
  readonly compared: readonly string[];
  readonly differences: readonly RealDifference[];
}

/** Maps are compared as a whole: order and number of rows count. */
function compare(guest: RealGuest, seen: Observation): Comparison {
  const items: [string, Json, Json][] = [];
  const rows = (map: readonly E820Row[] | null): Json => map?.map((row) => ({ ...row })) ?? null;
  if (guest.hvmloaderE820) items.push(["hvmloader's E820", rows(guest.hvmloaderE820), rows(seen.hvmloaderE820)]);
  if (guest.kernelE820) items.push(["kernel's E820", rows(guest.kernelE820), rows(seen.kernelE820)]);
  for (const [key, expected] of Object.entries(guest.xenstore)) {
    items.push([key === XL_LIST_MEM ? "xl list's Mem" : `memory/${key}`, expected, seen.nodes[key] ?? null]);
  }
  const differences = items.flatMap(([item, expected, got]) => {
    const difference = firstDifference(got, expected);
    return difference ? [{ item, ...difference }] : [];
  });
  return { compared: items.map(([item]) => item), differences };
}

export type RealVerdict = 'agrees' | 'explained' | 'differs';

export interface RealReport {
  readonly name: string;
  readonly verdict: RealVerdict;
  readonly compared: readonly string[];
  /** Without any rule. */
  readonly differences: readonly RealDifference[];
  /** Names of the rules with which everything agrees. */
  readonly explainedBy: readonly string[];
  /** Why it was not built, or what was not compared. */
  readonly notes: readonly string[];
}

/** Every non-empty choice of rules, the smallest first. */
function choices(rules: readonly Rule[]): readonly (readonly Rule[])[] {
  const sets = Array.from({ length: 2 ** rules.length - 1 }, (_, n) => rules.filter((_rule, i) => (n + 1) & (1 << i)));
  return sets.sort((a, b) => a.length - b.length);
}

function notesOf(guest: RealGuest, config: GuestConfig): string[] {
  const notes = guest.unknown.map((key) => `"${key}" is not compared`);
  if (hostMapSeenBy(guest, config))
    notes.push("the host's ranges are taken from what the guest saw: the file does not hold them");
  return notes;
}

export function compareRealGuest(guest: RealGuest, bugCompat: boolean): RealReport {
  const base: Variant = { rdmParser: bugCompat ? 'verbatim' : 'documented', acpiRegion: 'nvs' };
  const report = { name: guest.name, compared: [], differences: [], explainedBy: [], notes: [] };
  try {
    const config = parseConfig(guest, base.rdmParser);
    const notes = notesOf(guest, config);
    const { compared, differences } = compare(guest, observe(guest, base));
    if (compared.length === 0) return { ...report, verdict: 'differs', notes: [...notes, 'nothing to compare'] };
    if (differences.length === 0) return { ...report, verdict: 'agrees', compared, notes };
    const found = explanation(guest, config, base);
    const verdict = found ? 'explained' : 'differs';
    return { ...report, verdict, compared, differences, explainedBy: (found ?? []).map(({ name }) => name), notes };
  } catch (error) {
    return { ...report, verdict: 'differs', notes: [error instanceof Error ? error.message : String(error)] };
  }
}

/** The fewest rules with which nothing differs; null: there are none. */
function explanation(guest: RealGuest, config: GuestConfig, base: Variant): readonly Rule[] | null {
  for (const rules of choices(versionRules.filter((rule) => rule.applies(guest, config)))) {
    const variant: Variant = Object.assign({ ...base }, ...rules.map(({ change }) => change));
    if (compare(guest, observe(guest, variant)).differences.length === 0) return rules;
  }
  return null;
}
