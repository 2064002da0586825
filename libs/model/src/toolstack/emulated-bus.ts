// The PCI bus an HVM guest's firmware finds: the device model's own functions, and those passed through. Owns which function
// sits where; what firmware does with them is firmware/pci-setup.ts.
import type { BarKind, PciBar, PciFunction } from '../firmware/pci-bus.ts';
import { ROM_INDEX } from '../firmware/pci-bus.ts';
import type { DeviceConfig } from '../host-config.ts';
import type { BuildInfo } from './build-info.ts';

const MIB = 2 ** 20;
const PAGE = 4096;
const INTEL = 0x8086;
const XENSOURCE = 0x5853;
/** Where the emulated adapter sits. */
export const VGA_DEVFN = 0x18;
const FIRST_FREE_SLOT = 4;
const SLOTS = 32;

/** QEMU rounds an adapter's memory up to a power of two MiB. */
export const videoBytes = (videoMemkb: number): number => 2 ** Math.ceil(Math.log2(videoMemkb / 1024)) * MIB;

const bar = (index: number, kind: BarKind, size: number): PciBar => ({ index, kind, size });

interface Emulated {
  readonly devfn: number;
  readonly vendor: number;
  readonly device: number;
  readonly classCode: number;
  readonly intPin?: number;
  readonly bars?: readonly PciBar[];
}

const emulated = ({ intPin = 0, bars = [], ...fn }: Emulated): PciFunction => ({ ...fn, intPin, command: 0, bars });

/** i440FX, PIIX3 with IDE and power management, the platform device, the adapter. */
function deviceModel(build: BuildInfo): PciFunction[] {
  const functions = [
    emulated({ devfn: 0x00, vendor: INTEL, device: 0x1237, classCode: 0x0600 }),
    emulated({ devfn: 0x08, vendor: INTEL, device: 0x7000, classCode: 0x0601 }),
    emulated({ devfn: 0x09, vendor: INTEL, device: 0x7010, classCode: 0x0101, bars: [bar(4, 'io', 16)] }),
    emulated({ devfn: 0x0b, vendor: INTEL, device: 0x7113, classCode: 0x0680, intPin: 1 }),
  ];
  if (build.config.xenPlatformPci) {
    const bars = [bar(0, 'io', 256), bar(1, 'mem32p', 16 * MIB)];
    functions.push(emulated({ devfn: 0x10, vendor: XENSOURCE, device: 1, classCode: 0xff80, intPin: 1, bars }));
  }
  const vga = { devfn: VGA_DEVFN, classCode: 0x0300 };
  const rom = bar(ROM_INDEX, 'rom', 64 * 1024);
  if (build.vga === 'cirrus') {
    const bars = [bar(0, 'mem32p', 32 * MIB), bar(1, 'mem32', 4096), rom];
    functions.push(emulated({ ...vga, vendor: 0x1013, device: 0x00b8, bars }));
  } else if (build.vga !== 'none') {
    const window = Math.max(16 * MIB, videoBytes(build.videoMemkb));
    const bars = [bar(0, 'mem32p', window), bar(2, 'mem32', 4096), rom];
    functions.push(emulated({ ...vga, vendor: 0x1234, device: 0x1111, bars }));
  }
  return functions;
}

/** A class code as configuration space has it (24 bits) or without its programming interface (16). */
const classOf = (pciClass: number): number => (pciClass > 0xffff ? pciClass >> 8 : pciClass);

export interface PassedThrough {
  readonly device: DeviceConfig;
  /** Wanted virtual slot << 3; 0: any. */
  readonly vdevfn: number;
}

export interface GuestBus {
  readonly functions: readonly PciFunction[];
  /** By position in the list of devices passed through; -1: no slot was free. */
  readonly devfns: readonly number[];
}

/** The device model shows memory BARs of a passed-through function as whole pages (QEMU's xen_pt_get_emul_size). */
export function guestBus(build: BuildInfo, passed: readonly PassedThrough[]): GuestBus {
  const functions = deviceModel(build);
  const taken = new Set(functions.map(({ devfn }) => devfn >> 3));
  const devfns = passed.map(({ device, vdevfn }) => {
    let slot = vdevfn >> 3;
    if (slot === 0) for (slot = FIRST_FREE_SLOT; slot < SLOTS && taken.has(slot); slot++);
    if (slot >= SLOTS || taken.has(slot)) return -1;
    taken.add(slot);
    functions.push({
      devfn: slot << 3,
      vendor: device.vendor,
      device: device.device,
      classCode: classOf(device.pciClass),
      intPin: 1,
      command: 0,
      bars: device.bars.map(({ index, kind, size }) =>
        bar(index === 'rom' ? ROM_INDEX : index, kind, kind === 'io' ? size : Math.max(size, PAGE)),
      ),
    });
    return slot << 3;
  });
  return { functions, devfns };
}
