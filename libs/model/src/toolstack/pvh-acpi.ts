// The ACPI tables that libxl builds for a PVH guest, as far as memory goes: where its modules lie. The tables of a guest
// without a device model take seven pages (measured on Xen 4.17); their contents are not modelled.
import { ACPI_INFO_PHYSICAL_ADDRESS } from './e820.ts';
import type { AcpiModule } from './memory-map.ts';

const PAGE = 4096;
const TABLE_PAGES = 7;
const RSDP_BYTES = 64;

/** In libxl's order: the root pointer behind the tables, the info page, the tables. */
export const pvhAcpiModules: readonly AcpiModule[] = [
  { guestAddr: ACPI_INFO_PHYSICAL_ADDRESS + (1 + TABLE_PAGES) * PAGE, length: RSDP_BYTES },
  { guestAddr: ACPI_INFO_PHYSICAL_ADDRESS, length: PAGE },
  { guestAddr: ACPI_INFO_PHYSICAL_ADDRESS + PAGE, length: TABLE_PAGES * PAGE },
];

/** Frames of a module: each must be populated before anything is written into it. */
export function framesOf({ guestAddr, length }: AcpiModule): { readonly start: number; readonly count: number } {
  const start = Math.floor(guestAddr / PAGE);
  return { start, count: Math.ceil((guestAddr + length) / PAGE) - start };
}
