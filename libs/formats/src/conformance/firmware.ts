// Golden vectors of hvmloader's functions. Only decodes, calls the model with a memory that
// records, encodes.

import { adjustMemoryMap } from '#model/firmware/adjust-memory-map';
import { buildE820 } from '#model/firmware/build-e820';
import { HoleAllocators } from '#model/firmware/hole-allocators';
import { FirmwareCrash, type FirmwareMemory, type HvmInfo, memoryMapSetup } from '#model/firmware/memory-map-setup';
import { type BarKind, type PciFunction, ROM_INDEX } from '#model/firmware/pci-bus';
import { type PciSetupResult, pciSetup } from '#model/firmware/pci-setup';
import { Fields, hex, type Json, type JsonObject } from './fields.ts';
import { e820ToJson, readE820 } from './toolstack.ts';

const barKinds: readonly BarKind[] = ['io', 'mem32', 'mem32p', 'mem64', 'mem64p', 'rom'];
export const silent = (): void => {};

/** A guest's memory that grants `budget` pages and writes down what is done to it. */
export class RecordingMemory implements FirmwareMemory {
  readonly events: Record<string, Json>[] = [];
  #budget: number;

  constructor(budget: number) {
    this.#budget = budget < 0 ? Number.POSITIVE_INFINITY : budget;
  }

  populatePage(pfn: number): boolean {
    if (this.#budget <= 0) {
      this.events.push({ event: 'populate_failed', pfn: hex(pfn) });
      return false;
    }
    this.#budget--;
    const last = this.events.at(-1);
    if (last?.event === 'populated' && Number(last.pfn) + Number(last.count) === pfn)
      last.count = Number(last.count) + 1;
    else this.events.push({ event: 'populated', pfn: hex(pfn), count: 1 });
    return true;
  }

  relocate(fromPfn: number, toPfn: number, pages: number): boolean {
    this.events.push({ event: 'relocated', from_pfn: hex(fromPfn), to_pfn: hex(toPfn), pages });
    return true;
  }

  relocations(): JsonObject[] {
    return this.events.filter((e) => e.event === 'relocated').map(({ event: _, ...rest }) => rest);
  }
}

const readInfo = (f: Fields): HvmInfo => ({
  lowMemPgend: f.number('low_mem_pgend'),
  highMemPgend: f.number('high_mem_pgend'),
  memoryMap: readE820(f.list('memory_map')),
});

/** Runs `body`; a firmware bug or assertion becomes the vectors' `error`. */
function crashing(body: () => JsonObject, partial: () => JsonObject = () => ({})): JsonObject {
  try {
    return body();
  } catch (error) {
    if (error instanceof FirmwareCrash) return { ok: false, error: error.kind, ...partial() };
    throw error;
  }
}

export function hvmloaderMemoryMapSetup(input: Json): Json {
  return crashing(() => {
    memoryMapSetup(readE820(new Fields(input).list('memory_map')), silent);
    return { ok: true };
  });
}

export function hvmloaderAdjustMemoryMap(input: Json): Json {
  const info = readInfo(new Fields(input));
  adjustMemoryMap(info);
  return { memory_map: e820ToJson(info.memoryMap) };
}

export function hvmloaderBuildE820(input: Json): Json {
  const f = new Fields(input);
  return crashing(() => {
    const e820 = buildE820(readInfo(f), {
      acpiEnabled: f.boolean('acpi_enabled'),
      acpiPages: f.number('acpi_pages'),
      igdOpregionPfn: f.hex('igd_opregion_pfn'),
      lowmemReservedBase: f.hex('lowmem_reserved_base'),
      biosImageBase: f.hex('bios_image_base'),
    });
    return { ok: true, e820: e820ToJson(e820) };
  });
}

function runAllocatorOp(op: Fields, allocators: HoleAllocators): JsonObject {
  const name = op.string('op');
  switch (name) {
    case 'hole_alloc':
      return { op: name, pfn: hex(allocators.holeAlloc(op.number('pages'))) };
    case 'mem_alloc':
      return { op: name, addr: hex(allocators.memAlloc(op.number('size'), op.number('align'))) };
    case 'acpi_alloc':
      return { op: name, addr: hex(allocators.acpiAlloc(op.number('size'), op.number('align'))) };
    case 'populate':
      allocators.populate(op.hex('pfn'), op.number('pages'));
      return { op: name };
    default:
      throw new Error(`unknown allocator operation ${name}`);
  }
}

export function hvmloaderMemAlloc(input: Json): Json {
  const f = new Fields(input);
  const info = readInfo(f);
  const memory = new RecordingMemory(f.number('populate_budget'));
  const allocators = new HoleAllocators(info, memory);
  const returns: JsonObject[] = [];
  const trace = (): JsonObject => ({
    returns,
    events: memory.events.map(({ pages: _, ...event }) => event), // the allocators move single pages
  });
  return crashing(() => {
    for (const op of f.list('ops')) returns.push(runAllocatorOp(op, allocators));
    return {
      ok: true,
      ...trace(),
      low_mem_pgend: info.lowMemPgend,
      high_mem_pgend: info.highMemPgend,
      acpi_pages: allocators.acpiPages(),
      memory_map: e820ToJson(info.memoryMap),
    };
  }, trace);
}

export const readFunctions = (devices: readonly Fields[]): PciFunction[] =>
  devices.map((d) => ({
    devfn: d.number('devfn'),
    vendor: d.hex('vendor'),
    device: d.hex('device'),
    classCode: d.hex('class'),
    intPin: d.number('int_pin'),
    command: d.number('command'),
    bars: d.list('bars').map((b) => ({
      index: b.raw('index') === 'rom' ? ROM_INDEX : b.number('index'),
      kind: b.word('kind', barKinds),
      size: b.hex('size'),
    })),
  }));

export function pciToJson(pci: PciSetupResult, info: HvmInfo, memory: RecordingMemory): JsonObject {
  return {
    ok: true,
    pci_mem_start: hex(pci.pciMemStart),
    pci_mem_end: hex(pci.pciMemEnd),
    pci_hi_mem_start: hex(pci.pciHiMemStart),
    pci_hi_mem_end: hex(pci.pciHiMemEnd),
    low_mem_pgend: info.lowMemPgend,
    high_mem_pgend: info.highMemPgend,
    igd_opregion_pfn: hex(pci.igdOpregionPfn),
    virtual_vga: pci.virtualVga,
    memory_map: e820ToJson(info.memoryMap),
    relocations: memory.relocations(),
    bars: pci.devices.flatMap((d) =>
      d.registers.map((r) => ({
        devfn: d.fn.devfn,
        index: r.bar.index === ROM_INDEX ? 'rom' : r.bar.index,
        kind: r.bar.kind,
        size: hex(r.bar.size),
        address: r.address === null ? null : hex(r.address),
      })),
    ),
    devices: pci.devices.map((d) => ({ devfn: d.fn.devfn, command: d.command, int_line: d.intLine })),
  };
}

export function hvmloaderPciSetup(input: Json): Json {
  const f = new Fields(input);
  const info = readInfo(f);
  const memory = new RecordingMemory(-1);
  return crashing(() => {
    const pci = pciSetup({
      info,
      memory,
      allocators: new HoleAllocators(info, memory),
      settings: {
        physBits: f.number('phys_bits'),
        allowMemoryRelocate: f.nullable('allow_memory_relocate', (k) => f.string(k)),
        xenPlatformPciBarUc: f.nullable('xen_platform_pci_bar_uc', (k) => f.string(k)),
        mmioHoleSize: f.nullable('mmio_hole_size', (k) => f.string(k)),
      },
      functions: readFunctions(f.list('devices')),
      print: silent,
    });
    return pciToJson(pci, info, memory);
  });
}
