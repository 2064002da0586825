// The E820 table that hvmloader gives to the BIOS, and its dump on the console. As build_e820_table and dump_e820_table.
// Reads hvmloader's state, changes nothing.

import { E820_ACPI, E820_NVS, E820_RAM, E820_RESERVED, type E820Entry, type E820Type, MIB } from '../toolstack/e820.ts';
import {
  ACPI_MEMORY_DYNAMIC_START,
  assertion,
  bug,
  type HvmInfo,
  lowMemEnd,
  PAGE,
  PAGE_SHIFT,
  RESERVED_MEMBASE,
} from './memory-map-setup.ts';

export const IGD_OPREGION_PAGES = 3;
const CONVENTIONAL_END = 0xa0000;

export interface E820Request {
  readonly acpiEnabled: boolean;
  /** Pages the ACPI tables took from 0xFC001000 on. */
  readonly acpiPages: number;
  /** 0: none. */
  readonly igdOpregionPfn: number;
  /** 0: the default, 0xA0000. */
  readonly lowmemReservedBase: number;
  readonly biosImageBase: number;
}

/** Selection by swapping, not stable: equal addresses keep their order unless a smaller one swaps through. */
function sortByAddress(table: E820Entry[]): void {
  for (let j = 0; j < table.length - 1; j++) {
    for (let i = j + 1; i < table.length; i++) {
      const [a, b] = [table[j], table[i]];
      if (a === undefined || b === undefined || a.addr <= b.addr) continue;
      table[j] = b;
      table[i] = a;
    }
  }
}

/** The reserved area from the end of the ACPI pages to 4 GiB, split where the Intel graphics OpRegion lies in it. */
function specialArea(start: number, igdOpregionPfn: number): E820Entry[] {
  const toTop = (addr: number): E820Entry => ({ addr, size: -addr >>> 0, type: E820_RESERVED });
  if (igdOpregionPfn === 0) return [toTop(start)];
  const igd = (igdOpregionPfn << PAGE_SHIFT) >>> 0;
  return [
    { addr: start, size: (igd - start) >>> 0, type: E820_RESERVED },
    { addr: igd, size: IGD_OPREGION_PAGES * PAGE, type: E820_NVS },
    toTop((igd + IGD_OPREGION_PAGES * PAGE) >>> 0),
  ];
}

export function buildE820(info: HvmInfo, r: E820Request): E820Entry[] {
  const acpiEnd = r.acpiEnabled ? (ACPI_MEMORY_DYNAMIC_START + r.acpiPages * PAGE) >>> 0 : RESERVED_MEMBASE;
  const base = r.lowmemReservedBase || CONVENTIONAL_END;
  if (base <= 512 * 1024) throw assertion('lowmem_reserved_base > 512<<10', 'e820.c:166');
  if (r.biosImageBase >= MIB) throw assertion('bios_image_base < 0x100000', 'e820.c:168');

  const table: E820Entry[] = [{ addr: 0, size: base, type: E820_RAM }];
  if (base < CONVENTIONAL_END) table.push({ addr: base, size: CONVENTIONAL_END - base, type: E820_RESERVED });
  table.push({ addr: r.biosImageBase, size: MIB - r.biosImageBase, type: E820_RESERVED });
  if (r.acpiEnabled) table.push({ addr: RESERVED_MEMBASE, size: acpiEnd - RESERVED_MEMBASE, type: E820_NVS });
  table.push(...specialArea(acpiEnd, r.igdOpregionPfn));
  if (lowMemEnd(info) < 2 * MIB) throw bug('e820.c:264');
  for (const entry of info.memoryMap) table.push({ ...entry });
  sortByAddress(table);
  return table;
}

const hex8 = (n: number): string => n.toString(16).padStart(8, '0');
/** A 64-bit address as two halves of eight digits. */
const halves = (addr: number): string => `${hex8(Math.floor(addr / 2 ** 32))}:${hex8(addr % 2 ** 32)}`;

function typeName(type: E820Type): string {
  switch (type) {
    case E820_RAM:
      return 'RAM';
    case E820_RESERVED:
      return 'RESERVED';
    case E820_ACPI:
      return 'ACPI';
    case E820_NVS:
      return 'NVS';
    default:
      return `UNKNOWN (${hex8(type)})`;
  }
}

/** hvmloader's dump, one string a line; ends are exclusive. */
export function dumpE820(table: readonly E820Entry[]): string[] {
  const lines = ['E820 table:'];
  let lastEnd = 0;
  table.forEach((entry, i) => {
    const end = entry.addr + entry.size;
    if (entry.addr < lastEnd) lines.push(' OVERLAP!!');
    else if (entry.addr > lastEnd) lines.push(` HOLE: ${halves(lastEnd)} - ${halves(entry.addr)}`);
    const index = String(i).padStart(2, '0');
    lines.push(` [${index}]: ${halves(entry.addr)} - ${halves(end)}: ${typeName(entry.type)}`);
    lastEnd = end;
  });
  return lines;
}
