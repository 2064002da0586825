// The machine that a guest sees, as its xl.cfg says: firmware or kernel, display, device model, MMIO hole, altp2m. With xl's own
// refusals; what libxl makes of it is build-info.ts.
import { HVM_BELOW_4G_MMIO_LENGTH, HVM_BELOW_4G_MMIO_START, KIB } from './e820.ts';
import { type GuestConfigReader, isPrefixOf, oneOf } from './guest-config-reader.ts';
import type { Altp2mMode } from './passthrough-policy.ts';

export type VgaKind = 'cirrus' | 'std' | 'none' | 'qxl';
export type BiosKind = 'seabios' | 'ovmf' | 'rombios';

/** null: left to libxl (or not set). */
export interface PlatformConfig {
  readonly vga: VgaKind | null;
  /** 0: not configured. */
  readonly mmioHoleMemkb: number;
  readonly gfxPassthru: 'off' | 'default' | 'igd';
  readonly deviceModelVersion: 'qemu-xen';
  readonly bios: BiosKind | null;
  readonly firmwarePath: string | null;
  readonly altp2m: Altp2mMode;
  readonly altp2mhvm: boolean;
  /** Kernel or firmware image of a PV or PVH guest. */
  readonly kernel: string | null;
  readonly bootloader: string | null;
}

const altp2mModes: readonly Altp2mMode[] = ['disabled', 'mixed', 'external', 'limited'];
const biosKinds: readonly BiosKind[] = ['seabios', 'ovmf', 'rombios'];
const vgaKinds: Readonly<Record<string, VgaKind>> = { stdvga: 'std', cirrus: 'cirrus', none: 'none', qxl: 'qxl' };

type Firmware = Pick<PlatformConfig, 'bios' | 'firmwarePath' | 'kernel' | 'bootloader'>;

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

function readGfxPassthru(r: GuestConfigReader): PlatformConfig['gfxPassthru'] {
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

export function readPlatform(r: GuestConfigReader, hvm: boolean): PlatformConfig {
  const firmware = hvm ? readHvmFirmware(r) : readPvFirmware(r);
  const altp2mhvm = hvm ? (r.cfg.getBool('altp2mhvm') ?? false) : false;
  if (hvm && r.cfg.has('altp2mhvm')) {
    r.cfg.warnings.push('WARNING: Specifying "altp2mhvm" is deprecated. Please use "altp2m" instead.');
  }
  const mmioHoleMemkb = hvm ? readMmioHole(r) : 0;
  const altp2m = readAltp2m(r);
  readDeviceModel(r);
  return {
    ...firmware,
    altp2m,
    altp2mhvm,
    mmioHoleMemkb,
    vga: hvm ? readVga(r) : null,
    gfxPassthru: hvm ? readGfxPassthru(r) : 'off',
    deviceModelVersion: 'qemu-xen',
  };
}
