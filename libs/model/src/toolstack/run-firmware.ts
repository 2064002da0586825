// Runs hvmloader for a new HVM domain over real hypercalls: its pages are populated, its RAM is moved, its shared info page
// mapped, as the firmware itself would ask for them. Owns the translation of the firmware's port, and no policy.
import { type HvmloaderMemory, type HvmloaderResult, runHvmloader } from '../firmware/hvmloader.ts';
import type { PciFunction } from '../firmware/pci-bus.ts';
import { type Hypercalls, physmapSpace } from '../hypercall/calls.ts';
import type { BuildInfo } from './build-info.ts';
import { mmioHoleSizeKey } from './build-layout.ts';
import type { E820Entry } from './e820.ts';

const PAGE = 4096;
const FOUR_GIB = 2 ** 32;
const XEN_VERSION = '4.23-unstable';
/** What this build of the BIOS and of the ACPI tables takes. */
const SEABIOS_BYTES = 256 * 1024;
const OVMF_BYTES = 2 * 2 ** 20;
const ACPI_PAGES = 10;

export interface FirmwareRequest {
  readonly domid: number;
  readonly build: BuildInfo;
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly memoryMap: readonly E820Entry[];
  readonly functions: readonly PciFunction[];
  readonly physBits: number;
}

function memoryOf(port: Hypercalls, domid: number): HvmloaderMemory {
  return {
    populatePage: (pfn) =>
      port.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: pfn, count: 1 } }).rc === 1,
    relocate: (idx, gpfn, size) => {
      const space = size === 1 ? physmapSpace.gmfn : physmapSpace.gmfnRange;
      return port.call({ op: 'add_to_physmap', domid, space, idx, gpfn, size }).rc === 0;
    },
    mapSharedInfo: (gpfn) =>
      port.call({ op: 'add_to_physmap', domid, space: physmapSpace.sharedInfo, idx: 0, gpfn, size: 1 }).rc === 0,
  };
}

export function runFirmware(port: Hypercalls, r: FirmwareRequest): HvmloaderResult {
  const { config, bios } = r.build;
  const ovmf = bios === 'ovmf';
  return runHvmloader(
    {
      xenVersion: XEN_VERSION,
      lowMemPgend: r.lowmemEnd / PAGE,
      highMemPgend: r.highmemEnd > FOUR_GIB ? r.highmemEnd / PAGE : 0,
      memoryMap: r.memoryMap,
      settings: {
        physBits: r.physBits,
        allowMemoryRelocate: '0', // libxl always writes it
        xenPlatformPciBarUc: config.xenPlatformPciBarUc ? '1' : '0',
        mmioHoleSize: mmioHoleSizeKey(config.mmioHoleMemkb),
      },
      functions: r.functions,
      bios: ovmf ? 'ovmf' : 'seabios',
      biosImageBytes: ovmf ? OVMF_BYTES : SEABIOS_BYTES,
      acpiEnabled: config.acpi,
      acpiPages: ACPI_PAGES,
    },
    memoryOf(port, r.domid),
  );
}
