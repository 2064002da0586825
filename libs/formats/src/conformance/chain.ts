// Golden vectors of the whole chain for one HVM guest: layout, RDM, memory map, hvmloader's stages, E820.

import { buildE820 } from '#model/firmware/build-e820';
import { HoleAllocators } from '#model/firmware/hole-allocators';
import { FirmwareCrash, type HvmInfo, memoryMapSetup, PAGE } from '#model/firmware/memory-map-setup';
import { pciSetup } from '#model/firmware/pci-setup';
import { mmioHoleSizeKey, planLayout } from '#model/toolstack/build-layout';
import { constructRdm } from '#model/toolstack/construct-rdm';
import type { E820Entry } from '#model/toolstack/e820';
import { constructMemmap } from '#model/toolstack/memory-map';
import { Fields, type Json, type JsonObject } from './fields.ts';
import { pciToJson, RecordingMemory, readFunctions, silent } from './firmware.ts';
import {
  e820ToJson,
  layoutToJson,
  policies,
  rdmPlanToJson,
  readHostRdm,
  readPcidevs,
  strategies,
} from './toolstack.ts';

const KIB_PER_MIB = 1024;

function bootFirmware(f: Fields, memmap: readonly E820Entry[], lowEnd: number, highEnd: number): JsonObject {
  const info: HvmInfo = { lowMemPgend: lowEnd / PAGE, highMemPgend: highEnd / PAGE, memoryMap: [] };
  const memory = new RecordingMemory(-1);
  const allocators = new HoleAllocators(info, memory);
  info.memoryMap = memoryMapSetup(memmap, silent);
  allocators.holeAlloc(1); // the shared info page
  const pci = pciSetup({
    info,
    memory,
    allocators,
    settings: {
      physBits: f.number('phys_bits'),
      allowMemoryRelocate: f.nullable('allow_memory_relocate', (k) => f.string(k)),
      xenPlatformPciBarUc: f.nullable('xen_platform_pci_bar_uc', (k) => f.string(k)),
      mmioHoleSize: mmioHoleSizeKey(f.number('mmio_hole_mb') * KIB_PER_MIB),
    },
    functions: readFunctions(f.list('guest_devices')),
    print: silent,
  });
  const pciJson = pciToJson(pci, info, memory);
  const acpiPages = f.number('acpi_pages');
  if (acpiPages > 0) allocators.acpiAlloc(acpiPages * PAGE, PAGE);
  const e820 = buildE820(info, {
    acpiEnabled: true,
    acpiPages: allocators.acpiPages(),
    igdOpregionPfn: pci.igdOpregionPfn,
    lowmemReservedBase: f.hex('lowmem_reserved_base'),
    biosImageBase: f.hex('bios_image_base'),
  });
  return { pci: pciJson, e820: e820ToJson(e820) };
}

export function e2eHvmMemory(input: Json): Json {
  const f = new Fields(input);
  const layout = planLayout({
    type: 'hvm',
    maxMemkb: f.number('maxmem_mb') * KIB_PER_MIB,
    targetMemkb: f.number('memory_mb') * KIB_PER_MIB,
    videoMemkb: f.number('videoram_mb') * KIB_PER_MIB,
    mmioHoleMemkb: f.number('mmio_hole_mb') * KIB_PER_MIB,
  });
  const request = {
    lowmemEnd: layout.lowmemEnd,
    highmemEnd: layout.highmemEnd,
    hap: f.boolean('hap'),
    strategy: f.word('rdm_strategy', strategies),
    policy: f.word('rdm_policy', policies),
    boundaryMemkb: f.number('rdm_mem_boundary_mb') * KIB_PER_MIB,
    pcidevs: readPcidevs(f.list('pcidevs')),
  };
  const plan = constructRdm(request, readHostRdm(f.list('host_rdm')));
  const planned = { layout: layoutToJson(layout), rdm: rdmPlanToJson(plan) };
  if (!plan.ok) return planned;
  const built = constructMemmap({
    type: 'hvm',
    lowmemEnd: plan.lowmemEnd,
    highmemEnd: plan.highmemEnd,
    rdms: plan.rdms,
    acpiModules: [],
  });
  if (!built.ok) return planned;
  const mapped = { ...planned, memmap: e820ToJson(built.memmap) };
  try {
    return { ...mapped, ...bootFirmware(f, built.memmap, plan.lowmemEnd, plan.highmemEnd) };
  } catch (error) {
    if (error instanceof FirmwareCrash) return { ...mapped, pci: { ok: false, error: error.kind } };
    throw error;
  }
}
