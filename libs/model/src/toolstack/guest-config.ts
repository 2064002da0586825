// An xl.cfg file as xl understands it: the typed settings of the memory plane, xl's own defaults and refusals, with file and
// line. The machine that the guest sees is platform-config.ts; what libxl adds and refuses afterwards is build-info.ts. Every
// message that xl prints has xl's words.
import type { RdmPolicy, RdmStrategy } from './construct-rdm.ts';
import { KIB } from './e820.ts';
import { type GuestConfigError, GuestConfigReader, isPrefixOf } from './guest-config-reader.ts';
import type { DomainType, PassthroughOption } from './passthrough-policy.ts';
import { type PciDevice, parsePciSpec, pciDeviceDefaults } from './pci-spec.ts';
import { type PlatformConfig, readPlatform } from './platform-config.ts';
import { parseRdmSpec } from './rdm-spec.ts';
import { parseVnuma, type VnumaNode } from './vnuma.ts';
import { Xlcfg } from './xlcfg.ts';
import { parseXlcfg } from './xlcfg-parser.ts';

export type ShutdownAction =
  | 'destroy'
  | 'restart'
  | 'rename-restart'
  | 'preserve'
  | 'coredump-destroy'
  | 'coredump-restart'
  | 'soft-reset';

/** null: left to libxl (or not set). Memory in KiB. Plain data: it travels in messages. */
export interface GuestConfig extends PlatformConfig {
  readonly name: string;
  readonly type: DomainType;
  readonly targetMemkb: number | null;
  readonly maxMemkb: number | null;
  readonly vcpus: number;
  readonly maxVcpus: number;
  /** vnuma= gave the number of vCPUs, so xl compares it with the host's pCPUs. */
  readonly vcpusFromVnuma: boolean;
  readonly videoMemkb: number | null;
  readonly shadowMemkb: number | null;
  readonly hap: boolean | null;
  readonly nestedhvm: boolean;
  readonly passthrough: PassthroughOption;
  readonly pci: readonly PciDevice[];
  readonly dtdevs: readonly string[];
  readonly rdm: { readonly strategy: RdmStrategy; readonly policy: RdmPolicy };
  readonly rdmMemBoundaryMemkb: number | null;
  readonly e820Host: boolean;
  readonly acpi: boolean;
  readonly vnuma: readonly VnumaNode[];
  readonly onPoweroff: ShutdownAction;
  readonly onReboot: ShutdownAction;
  readonly onCrash: ShutdownAction;
  readonly xenPlatformPci: boolean;
  readonly xenPlatformPciBarUc: boolean;
}

export type GuestConfigResult =
  | { readonly ok: true; readonly config: GuestConfig; readonly warnings: readonly string[] }
  | { readonly ok: false; readonly errors: readonly GuestConfigError[]; readonly warnings: readonly string[] };

const shutdownActions: readonly ShutdownAction[] = [
  'destroy',
  'restart',
  'rename-restart',
  'preserve',
  'coredump-destroy',
  'coredump-restart',
  'soft-reset',
];
const passthroughOptions: readonly PassthroughOption[] = ['default', 'disabled', 'enabled', 'sync_pt', 'share_pt'];

function readType(r: GuestConfigReader): DomainType {
  let type: DomainType | null = null;
  const text = r.cfg.getString('type');
  if (text !== undefined) {
    type = isPrefixOf('hvm', text) ? 'hvm' : isPrefixOf('pv', text) ? 'pv' : isPrefixOf('pvh', text) ? 'pvh' : null;
    if (type === null) r.fail('type', `Invalid domain type ${text}.`, 'use "hvm", "pv" or "pvh"');
  }
  const builder = r.cfg.getString('builder');
  if (builder !== undefined) {
    const built: DomainType | null = isPrefixOf('hvm', builder) ? 'hvm' : isPrefixOf('generic', builder) ? 'pv' : null;
    if (built === null) r.fail('builder', `Invalid domain type ${builder}.`, 'use type="hvm" instead of builder=');
    else if (type !== null && type !== built) {
      r.fail('builder', 'Contradicting "builder" and "type" options specified.', 'remove builder=, it is deprecated');
    } else type = built;
  }
  return type ?? 'pv';
}

type Cpus = Pick<GuestConfig, 'vcpus' | 'maxVcpus' | 'vcpusFromVnuma' | 'vnuma' | 'targetMemkb' | 'maxMemkb'>;

function readMemoryAndCpus(r: GuestConfigReader): Cpus {
  const targetMemkb = r.sizeMemkb('memory');
  let maxMemkb = r.sizeMemkb('maxmem');
  const vcpus = Math.max(1, r.cfg.getNumber('vcpus') ?? 0);
  let maxVcpus = r.cfg.getNumber('maxvcpus') ?? 0;
  let vcpusFromVnuma = false;
  let vnuma: readonly VnumaNode[] = [];
  const items = r.cfg.getList('vnuma', true);
  if (items !== undefined && items.length > 0) {
    const spec = parseVnuma(items);
    if (!spec.ok) {
      r.errors.push({
        line: spec.line,
        message: spec.message,
        remedy: 'write ["pnode=0","size=512","vcpus=0-1","vdistances=10,20"]',
      });
    } else {
      vnuma = spec.nodes;
      vcpusFromVnuma = maxVcpus === 0;
      if (maxVcpus !== 0 && maxVcpus !== spec.vcpus) {
        r.fail(
          'vnuma',
          'xl: vnuma vcpus and maxvcpus= mismatch',
          `the nodes have ${spec.vcpus} vCPUs, maxvcpus is ${maxVcpus}`,
        );
      }
      if (maxMemkb !== null && maxMemkb !== spec.memkb) {
        r.fail('vnuma', 'xl: maxmem and vnuma memory size mismatch', `the nodes have ${spec.memkb / KIB} MiB`);
      }
      if (vcpusFromVnuma) maxVcpus = spec.vcpus;
      maxMemkb = spec.memkb;
    }
  }
  if (maxVcpus === 0) maxVcpus = vcpus;
  if (maxVcpus < vcpus) r.fail('maxvcpus', 'xl: maxvcpus < vcpus', 'raise maxvcpus or leave it out');
  return { targetMemkb, maxMemkb: maxMemkb ?? targetMemkb, vcpus, maxVcpus, vcpusFromVnuma, vnuma };
}

/** How xl reads `rdm=`: as its manual says, or as its parser does, which takes every valid policy for a mistake. */
export type RdmParser = 'documented' | 'verbatim';

export interface GuestConfigOptions {
  readonly rdmParser: RdmParser;
}

function readRdm(r: GuestConfigReader, rdmParser: RdmParser): GuestConfig['rdm'] {
  const text = r.cfg.getString('rdm');
  const unset = { strategy: 'ignore', policy: 'invalid' } as const;
  if (text === undefined) return unset;
  const verbatim = rdmParser === 'verbatim';
  const spec = parseRdmSpec(text, { bugCompatible: verbatim });
  if (spec.ok) return { strategy: spec.strategy, policy: spec.policy };
  // xl says nothing at all here and builds the guest without it.
  if (verbatim) return unset;
  r.cfg.warn(
    r.cfg.line('rdm') ?? 0,
    `rdm="${text}" is not valid and has no effect${spec.report ? ` (${spec.report})` : ''}`,
  );
  return unset;
}

function readPci(r: GuestConfigReader, rdmPolicy: RdmPolicy): PciDevice[] {
  const on = (key: string): boolean => (r.cfg.getNumber(key) ?? 0) !== 0;
  const defaults: PciDevice = {
    ...pciDeviceDefaults,
    msitranslate: on('pci_msitranslate'),
    powerMgmt: on('pci_power_mgmt'),
    permissive: on('pci_permissive'),
    seize: on('pci_seize'),
    rdmPolicy,
  };
  const devices: PciDevice[] = [];
  for (const { text, line } of r.cfg.getStrings('pci') ?? []) {
    const spec = parsePciSpec(text, defaults);
    if (spec.ok) {
      devices.push(spec.pci);
      continue;
    }
    const why = spec.report === undefined ? '' : `${spec.report}; `;
    const message = `${why}unable to parse PCI_SPEC_STRING \`${text}' for passthrough`;
    r.errors.push({
      line,
      message,
      remedy: "write [DDDD:]BB:SS.F[@VSLOT][,key=value]…, for example '01:00.0,rdm_policy=relaxed'",
    });
  }
  return devices;
}

function readShutdownAction(r: GuestConfigReader, key: string, otherwise: ShutdownAction): ShutdownAction {
  const text = r.cfg.getString(key);
  if (text === undefined) return otherwise;
  const action = shutdownActions.find((a) => a === text);
  if (action === undefined)
    r.fail(key, `Unknown ${key} action "${text}" specified`, `use one of ${shutdownActions.join(', ')}`);
  return action ?? otherwise;
}

function readConfig(r: GuestConfigReader, { rdmParser }: GuestConfigOptions): GuestConfig {
  const type = readType(r);
  const hvm = type === 'hvm';
  const hap = r.cfg.getBool('hap') ?? null;
  const name = r.cfg.getString('name');
  if (name === undefined) r.fail('name', 'Domain name must be specified.', 'add name = "…"');
  const memory = readMemoryAndCpus(r);
  const onPoweroff = readShutdownAction(r, 'on_poweroff', 'destroy');
  const onReboot = readShutdownAction(r, 'on_reboot', 'restart');
  const onCrash = readShutdownAction(r, 'on_crash', 'destroy');
  const e820Wanted = type === 'pv' && (r.cfg.getBool('e820_host') ?? false);
  const rdm = readRdm(r, rdmParser);
  const pci = readPci(r, rdm.policy);
  const passthrough = r.word(
    'passthrough',
    passthroughOptions,
    (text) => `ERROR: unknown passthrough option '${text}'`,
  );
  const shadowMemkb = r.sizeMemkb('shadow_memory');
  const videoMemkb = r.sizeMemkb('videoram');
  const platform = readPlatform(r, hvm);
  const rdmMemBoundaryMemkb = hvm ? r.sizeMemkb('rdm_mem_boundary') : null;
  return {
    name: name ?? '',
    type,
    ...memory,
    videoMemkb,
    shadowMemkb,
    hap,
    nestedhvm: r.cfg.getBool('nestedhvm') ?? false,
    passthrough: passthrough ?? 'default',
    pci,
    dtdevs: (r.cfg.getStrings('dtdev') ?? []).map((d) => d.text),
    rdm,
    rdmMemBoundaryMemkb,
    e820Host: e820Wanted || (type === 'pv' && pci.length > 0), // a PV guest with devices must see the host's map
    ...platform,
    acpi: r.cfg.getBool('acpi') ?? true,
    onPoweroff,
    onReboot,
    onCrash,
    xenPlatformPci: r.cfg.getBool('xen_platform_pci') ?? true,
    xenPlatformPciBarUc: r.cfg.getBool('xen_platform_pci_bar_uc') ?? true,
  };
}

/** The line number in a message of the parser, `SOURCE:LINE: …`. */
function parserError(message: string, source: string): GuestConfigError {
  const line = message.startsWith(`${source}:`) ? Number.parseInt(message.slice(source.length + 1), 10) : Number.NaN;
  return Number.isNaN(line) ? { message } : { line, message };
}

/** Reads `text`; `source` is the file name that messages carry. */
export function parseGuestConfig(
  text: string,
  source: string,
  options: GuestConfigOptions = { rdmParser: 'documented' },
): GuestConfigResult {
  const parsed = parseXlcfg(text, source);
  if (!parsed.ok) {
    const errors: GuestConfigError[] = parsed.report.map((message) => parserError(message, source));
    errors.push({
      message: 'Failed to parse config: Invalid argument',
      remedy: 'correct the lines above; only plain key = value is understood',
    });
    return { ok: false, errors, warnings: [] };
  }
  const cfg = new Xlcfg(parsed.settings, source);
  const reader = new GuestConfigReader(cfg);
  const config = readConfig(reader, options);
  const { warnings } = cfg;
  return reader.errors.length > 0 ? { ok: false, errors: reader.errors, warnings } : { ok: true, config, warnings };
}
