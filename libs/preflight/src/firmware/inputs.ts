// What a machine of one's own is described by: firmware's table, the boot log, the listing of its devices. Owns the shapes that the
// parsers' results are taken in; any of them may be missing.
import type { DmarTable } from '#formats/acpi/dmar';
import type { IvrsTable } from '#formats/acpi/ivrs';

export interface FirmwareInputs {
  /** Of the machine. */
  readonly name: string;
  readonly dmar?: { readonly file: string; readonly table: DmarTable };
  readonly ivrs?: { readonly file: string; readonly table: IvrsTable };
  readonly log?: { readonly file: string; readonly text: string };
  readonly lspci?: { readonly file: string; readonly text: string };
}

/** A 64-bit number of a table as a plain one; beyond 2^53 it only has to stay too large. */
export function tableNumber(text: string): number {
  const value = BigInt(text);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}
