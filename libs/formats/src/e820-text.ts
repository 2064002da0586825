// A guest's E820 as the firmware prints it on its console (hvmloader's dump): numbered rows, holes and overlaps between
// them. This file owns the text only; which ranges a guest gets is decided by the firmware model.
//
// Ends are exclusive here, as in that dump (Linux prints inclusive ones).
import type { MemoryMapEntry } from '#model/hypercall/calls';

const TYPE_NAMES: Readonly<Record<number, string>> = { 1: 'RAM', 2: 'RESERVED', 3: 'ACPI', 4: 'NVS' };

const hex8 = (n: number): string => n.toString(16).padStart(8, '0');

/** A 64-bit address as two 32-bit halves; addresses stay below 2^53. */
const halves = (address: number): string => `${hex8(Math.floor(address / 2 ** 32))}:${hex8(address % 2 ** 32)}`;

/** The word the dump uses for a type; anything but the first four is shown by number. */
export function e820TypeName(type: number): string {
  return TYPE_NAMES[type] ?? `UNKNOWN (${hex8(type)})`;
}

/** The dump's lines, in the order of the entries, without the console's `(dN) ` prefix. */
export function e820Lines(entries: readonly MemoryMapEntry[]): string[] {
  const lines = ['E820 table:'];
  let lastEnd = 0;
  for (const [index, { addr, size, type }] of entries.entries()) {
    const end = addr + size;
    if (addr < lastEnd) lines.push(' OVERLAP!!');
    else if (addr > lastEnd) lines.push(` HOLE: ${halves(lastEnd)} - ${halves(addr)}`);
    lines.push(` [${index.toString().padStart(2, '0')}]: ${halves(addr)} - ${halves(end)}: ${e820TypeName(type)}`);
    lastEnd = end;
  }
  return lines;
}

/** One text, each line ended. */
export const formatE820 = (entries: readonly MemoryMapEntry[]): string => `${e820Lines(entries).join('\n')}\n`;
