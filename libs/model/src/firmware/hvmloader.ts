// hvmloader's boot as far as memory goes, in its order: memory map, shared info page, PCI, BIOS image, ACPI tables, vm86
// TSS, E820. Gives what the BIOS would get, and hvmloader's own console lines (the hypervisor prints them as "(dN) …").
// It reads no xenstore: the caller passes the keys; it changes memory only through the port.

import type { E820Entry } from '../toolstack/e820.ts';
import { buildE820, dumpE820 } from './build-e820.ts';
import { HoleAllocators } from './hole-allocators.ts';
import {
  bug,
  FirmwareCrash,
  type FirmwareMemory,
  type HvmInfo,
  memoryMapSetup,
  PAGE,
  PAGE_SHIFT,
  RESERVED_MEMBASE,
} from './memory-map-setup.ts';
import type { PciFunction } from './pci-bus.ts';
import { type PciSettings, type PciSetupResult, pciSetup } from './pci-setup.ts';

const VM86_TSS_BYTES = 384;
const VM86_TSS_ALIGN = 128;
/** OVMF ends at 4 GiB and begins at a whole MiB; what it tells the table builder to reserve below 1 MiB. */
const OVMF_END = 2 ** 32;
const OVMF_UNIT = 2 ** 20;
const OVMF_LOWCHUNK_BEGIN = 0xf0000;

export interface HvmloaderMemory extends FirmwareMemory {
  /** XENMEM_add_to_physmap of the shared info page. */
  mapSharedInfo(pfn: number): boolean;
}

export interface HvmloaderRequest {
  readonly xenVersion: string;
  /** hvm_info_table */
  readonly lowMemPgend: number;
  readonly highMemPgend: number;
  /** XENMEM_memory_map */
  readonly memoryMap: readonly E820Entry[];
  readonly settings: PciSettings;
  readonly functions: readonly PciFunction[];
  readonly bios: 'seabios' | 'ovmf';
  /** Bytes of the BIOS image; SeaBIOS lies below 1 MiB, OVMF below 4 GiB in pages populated for it. */
  readonly biosImageBytes: number;
  /** platform/acpi */
  readonly acpiEnabled: boolean;
  /** Pages that the ACPI tables of this guest take. */
  readonly acpiPages: number;
}

export interface HvmloaderBoot {
  readonly lines: readonly string[];
  readonly info: HvmInfo;
  readonly pci: PciSetupResult;
  readonly e820: readonly E820Entry[];
}

export type HvmloaderResult =
  | ({ readonly ok: true } & HvmloaderBoot)
  | { readonly ok: false; readonly lines: readonly string[]; readonly error: 'bug' | 'assert'; readonly info: HvmInfo };

/** Where the BIOS image ends up, and the lowest address the E820 must keep for it. */
function loadBios(r: HvmloaderRequest, allocators: HoleAllocators): number {
  if (r.bios === 'seabios') return 2 ** 20 - r.biosImageBytes;
  const start = OVMF_END - Math.ceil(r.biosImageBytes / OVMF_UNIT) * OVMF_UNIT;
  const pages = Math.floor((start + r.biosImageBytes) / PAGE) - start / PAGE;
  for (let i = 0; i < pages; i++) allocators.populate(start / PAGE + i, 1);
  return OVMF_LOWCHUNK_BEGIN;
}

function boot(
  r: HvmloaderRequest,
  info: HvmInfo,
  memory: HvmloaderMemory,
  print: (line: string) => void,
): Omit<HvmloaderBoot, 'lines'> {
  const biosName = r.bios === 'ovmf' ? 'OVMF' : 'SeaBIOS';
  print('HVM Loader');
  print(`Detected Xen v${r.xenVersion}`);
  info.memoryMap = memoryMapSetup(r.memoryMap, print);
  print(`System requested ${biosName}`);

  const allocators = new HoleAllocators(info, memory);
  // Measuring the CPU's speed needs the shared info page; it takes the topmost page of the hole area.
  if (!memory.mapSharedInfo(allocators.holeAlloc(1))) throw bug('util.c:710');
  const pci = pciSetup({ info, memory, allocators, settings: r.settings, functions: r.functions, print });

  print(`Loading ${biosName} ...`);
  const biosImageBase = loadBios(r, allocators);
  if (r.acpiEnabled) {
    print('Loading ACPI ...');
    allocators.populate(RESERVED_MEMBASE / PAGE, 1);
    if (r.acpiPages > 0) allocators.acpiAlloc(r.acpiPages << PAGE_SHIFT, PAGE);
  }
  const tss = allocators.memAlloc(VM86_TSS_BYTES, VM86_TSS_ALIGN);
  print(`vm86 TSS at ${tss.toString(16).padStart(8, '0')}`);

  const e820 = buildE820(info, {
    acpiEnabled: r.acpiEnabled,
    acpiPages: allocators.acpiPages(),
    igdOpregionPfn: pci.igdOpregionPfn,
    lowmemReservedBase: 0,
    biosImageBase,
  });
  for (const line of dumpE820(e820)) print(line);
  print(`Invoking ${biosName} ...`);
  return { info, pci, e820 };
}

/** Boots the firmware of one guest. A firmware bug or assertion is a result: the guest crashes itself, the host goes on. */
export function runHvmloader(r: HvmloaderRequest, memory: HvmloaderMemory): HvmloaderResult {
  const lines: string[] = [];
  const info: HvmInfo = { lowMemPgend: r.lowMemPgend, highMemPgend: r.highMemPgend, memoryMap: [] };
  try {
    const done = boot(r, info, memory, (line) => lines.push(line));
    return { ok: true, lines, ...done };
  } catch (error) {
    if (!(error instanceof FirmwareCrash)) throw error;
    lines.push(error.message, '*** HVMLoader crashed.');
    return { ok: false, lines, error: error.kind, info };
  }
}
