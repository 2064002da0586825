// An xl.cfg file as xl understands it: the typed settings of the memory plane, xl's own defaults and refusals, with file and
// line. What libxl adds and refuses afterwards is build-info.ts. Every message that xl prints has xl's words.

import type { RdmPolicy, RdmStrategy } from './construct-rdm.ts';
import { HVM_BELOW_4G_MMIO_LENGTH, HVM_BELOW_4G_MMIO_START, KIB } from './e820.ts';
import type { Altp2mMode, DomainType, PassthroughOption } from './passthrough-policy.ts';
import { type PciDevice, parsePciSpec, pciDeviceDefaults } from './pci-spec.ts';
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
export type VgaKind = 'cirrus' | 'std' | 'none' | 'qxl';
export type BiosKind = 'seabios' | 'ovmf' | 'rombios';

/** null: left to libxl (or not set). Memory in KiB. Plain data: it travels in messages. */
export interface GuestConfig {
  readonly name: string;
  readonly type: DomainType;
  readonly targetMemkb: number | null;
  readonly maxMemkb: number | null;
  readonly vcpus: number;
  readonly maxVcpus: number;
  /** vnuma= gave the number of vCPUs, so xl compares it with the host's pCPUs. */
  readonly vcpusFromVnuma: boolean;
  readonly videoMemkb: number | null;
  readonly vga: VgaKind | null;
  readonly shadowMemkb: number | null;
  readonly hap: boolean | null;
  readonly nestedhvm: boolean;
  readonly passthrough: PassthroughOption;
  readonly pci: readonly PciDevice[];
  readonly dtdevs: readonly string[];
  readonly rdm: { readonly strategy: RdmStrategy; readonly policy: RdmPolicy };
  readonly rdmMemBoundaryMemkb: number | null;
  /** 0: not configured. */
  readonly mmioHoleMemkb: number;
  readonly e820Host: boolean;
  readonly gfxPassthru: 'off' | 'default' | 'igd';
  readonly deviceModelVersion: 'qemu-xen';
  readonly bios: BiosKind | null;
  readonly firmwarePath: string | null;
  readonly acpi: boolean;
  readonly vnuma: readonly VnumaNode[];
  readonly altp2m: Altp2mMode;
  readonly altp2mhvm: boolean;
  readonly onPoweroff: ShutdownAction;
  readonly onReboot: ShutdownAction;
  readonly onCrash: ShutdownAction;
  readonly xenPlatformPci: boolean;
  readonly xenPlatformPciBarUc: boolean;
  /** Kernel or firmware image of a PV or PVH guest. */
  readonly kernel: string | null;
  readonly bootloader: string | null;
}

export interface GuestConfigError {
  readonly line?: number;
  /** As xl prints it. */
  readonly message: string;
  readonly remedy?: string;
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
const altp2mModes: readonly Altp2mMode[] = ['disabled', 'mixed', 'external', 'limited'];
const biosKinds: readonly BiosKind[] = ['seabios', 'ovmf', 'rombios'];
const vgaKinds: Readonly<Record<string, VgaKind>> = { stdvga: 'std', cirrus: 'cirrus', none: 'none', qxl: 'qxl' };

/** libxl's enumerations are read in any case. */
function oneOf<T extends string>(words: readonly T[], text: string): T | undefined {
  const lower = text.toLowerCase();
  return words.find((word) => word === lower);
}

/** xl compares with the *value's* length: any prefix of the word is the word. */
const isPrefixOf = (word: string, text: string): boolean => word.startsWith(text);

/** Reads one file; every problem is collected, xl would stop at the first. */
class GuestConfigReader {
  readonly cfg: Xlcfg;
  readonly errors: GuestConfigError[] = [];

  constructor(cfg: Xlcfg) {
    this.cfg = cfg;
  }

  fail(key: string, message: string, remedy?: string): void {
    const line = this.cfg.line(key);
    this.errors.push({ ...(line === undefined ? {} : { line }), message, ...(remedy === undefined ? {} : { remedy }) });
  }

  /** A size in MiB, as KiB. xl would take a negative one as an enormous unsigned number; here it is refused. */
  sizeMemkb(key: string): number | null {
    const mib = this.cfg.getNumber(key);
    if (mib === undefined) return null;
    if (mib >= 0 && mib <= 2 ** 32) return mib * KIB;
    this.fail(key, `ERROR: invalid value ${mib} for "${key}"`, 'give a size in MiB, such as 4096');
    return null;
  }

  /** A key that must be one of libxl's words; null if absent or wrong. */
  word<T extends string>(key: string, words: readonly T[], message: (text: string) => string): T | null {
    const text = this.cfg.getString(key);
    if (text === undefined) return null;
    const word = oneOf(words, text);
    if (word === undefined) this.fail(key, message(text), `use one of ${words.join(', ')}`);
    return word ?? null;
  }
}

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

function readRdm(r: GuestConfigReader): GuestConfig['rdm'] {
  const text = r.cfg.getString('rdm');
  const unset = { strategy: 'ignore', policy: 'invalid' } as const;
  if (text === undefined) return unset;
  const spec = parseRdmSpec(text);
  if (spec.ok) return { strategy: spec.strategy, policy: spec.policy };
  // xl says nothing at all here; the guest would silently be built without it.
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

type Firmware = Pick<GuestConfig, 'bios' | 'firmwarePath' | 'kernel' | 'bootloader'>;

function readHvmFirmware(r: GuestConfigReader): Firmware {
  let bios = r.word('bios', biosKinds, (text) => `ERROR: invalid value "${text}" for "bios"`);
  let firmwarePath: string | null = r.cfg.getString('firmware_override') ?? null;
  const firmware = r.cfg.getString('firmware');
  if (firmware !== undefined) {
    const named = oneOf(biosKinds, firmware);
    if (named !== undefined) bios = named;
    else if (isPrefixOf('uefi', firmware)) bios = 'ovmf';
    else if (!isPrefixOf('bios', firmware)) firmwarePath = firmware;
  }
  return { bios, firmwarePath, kernel: null, bootloader: null };
}

function readPvFirmware(r: GuestConfigReader): Firmware {
  let kernel = r.cfg.getString('kernel') ?? null;
  const bootloader = r.cfg.getString('bootloader') ?? null;
  const firmware = r.cfg.getString('firmware');
  if (firmware !== undefined) {
    if (kernel !== null) r.fail('firmware', 'ERROR: both kernel and firmware specified', 'keep one of them');
    else if (!isPrefixOf('pvgrub32', firmware) && !isPrefixOf('pvgrub64', firmware)) {
      r.fail('firmware', 'ERROR: only pvgrub{32|64} supported as firmware options');
    } else kernel = `${firmware}.bin`;
  }
  if (kernel === null && bootloader === null && firmware === undefined) {
    r.fail('kernel', 'Neither kernel nor bootloader specified', 'set kernel= or bootloader=, or type="hvm"');
  }
  return { bios: null, firmwarePath: null, kernel, bootloader };
}

function readMmioHole(r: GuestConfigReader): number {
  const mib = r.cfg.getNumber('mmio_hole');
  if (mib === undefined) return 0;
  const bytes = mib * KIB * KIB;
  if (bytes >= HVM_BELOW_4G_MMIO_LENGTH && bytes <= HVM_BELOW_4G_MMIO_START) return mib * KIB;
  r.fail('mmio_hole', `ERROR: invalid value ${mib} for "mmio_hole"`, 'give 256 to 3840 (MiB)');
  return 0;
}

function readAltp2m(r: GuestConfigReader): Altp2mMode {
  const number = r.cfg.getLong('altp2m', true);
  if (number === undefined)
    return r.word('altp2m', altp2mModes, (text) => `ERROR: invalid value "${text}" for "altp2m"`) ?? 'disabled';
  const mode = altp2mModes[number.value];
  if (mode === undefined)
    r.fail('altp2m', `ERROR: invalid value ${number.decimal} for "altp2m"`, `use one of ${altp2mModes.join(', ')}`);
  return mode ?? 'disabled';
}

function readVga(r: GuestConfigReader): VgaKind | null {
  const text = r.cfg.getString('vga');
  if (text === undefined) {
    const stdvga = r.cfg.getNumber('stdvga');
    return stdvga === undefined ? null : stdvga !== 0 ? 'std' : 'cirrus';
  }
  const kind = vgaKinds[text];
  if (kind === undefined)
    r.fail('vga', `Unknown vga "${text}" specified`, `use one of ${Object.keys(vgaKinds).join(', ')}`);
  return kind ?? null;
}

function readGfxPassthru(r: GuestConfigReader): GuestConfig['gfxPassthru'] {
  const number = r.cfg.getNumber('gfx_passthru', true);
  if (number !== undefined) return number !== 0 ? 'default' : 'off';
  const kind = r.word(
    'gfx_passthru',
    ['default', 'igd'],
    (text) => `ERROR: invalid value "${text}" for "gfx_passthru"`,
  );
  return kind ?? 'off';
}

function readDeviceModel(r: GuestConfigReader): void {
  if (r.cfg.getString('device_model') !== undefined) {
    r.cfg.warnings.push(
      'WARNING: ignoring device_model directive.',
      'WARNING: Use "device_model_override" instead if you really want a non-default device_model',
    );
  }
  const version = r.cfg.getString('device_model_version');
  if (version !== undefined && version !== 'qemu-xen') {
    r.fail(
      'device_model_version',
      `Unknown device_model_version "${version}" specified`,
      'use "qemu-xen" or leave the key out',
    );
  }
}

function readConfig(r: GuestConfigReader): GuestConfig {
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
  const rdm = readRdm(r);
  const pci = readPci(r, rdm.policy);
  const passthrough = r.word(
    'passthrough',
    passthroughOptions,
    (text) => `ERROR: unknown passthrough option '${text}'`,
  );
  const shadowMemkb = r.sizeMemkb('shadow_memory');
  const videoMemkb = r.sizeMemkb('videoram');
  const firmware = hvm ? readHvmFirmware(r) : readPvFirmware(r);
  const altp2mhvm = hvm ? (r.cfg.getBool('altp2mhvm') ?? false) : false;
  if (hvm && r.cfg.has('altp2mhvm')) {
    r.cfg.warnings.push('WARNING: Specifying "altp2mhvm" is deprecated. Please use "altp2m" instead.');
  }
  const mmioHoleMemkb = hvm ? readMmioHole(r) : 0;
  const rdmMemBoundaryMemkb = hvm ? r.sizeMemkb('rdm_mem_boundary') : null;
  const altp2m = readAltp2m(r);
  readDeviceModel(r);
  return {
    name: name ?? '',
    type,
    ...memory,
    videoMemkb,
    vga: hvm ? readVga(r) : null,
    shadowMemkb,
    hap,
    nestedhvm: r.cfg.getBool('nestedhvm') ?? false,
    passthrough: passthrough ?? 'default',
    pci,
    dtdevs: (r.cfg.getStrings('dtdev') ?? []).map((d) => d.text),
    rdm,
    rdmMemBoundaryMemkb,
    mmioHoleMemkb,
    e820Host: e820Wanted || (type === 'pv' && pci.length > 0), // a PV guest with devices must see the host's map
    gfxPassthru: hvm ? readGfxPassthru(r) : 'off',
    deviceModelVersion: 'qemu-xen',
    ...firmware,
    acpi: r.cfg.getBool('acpi') ?? true,
    altp2m,
    altp2mhvm,
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
export function parseGuestConfig(text: string, source: string): GuestConfigResult {
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
  const config = readConfig(reader);
  const { warnings } = cfg;
  return reader.errors.length > 0 ? { ok: false, errors: reader.errors, warnings } : { ok: true, config, warnings };
}
