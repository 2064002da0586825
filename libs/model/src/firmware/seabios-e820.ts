// What SeaBIOS makes of hvmloader's E820 before a kernel sees it. It starts from that table and keeps parts of RAM for itself:
//
//   1. the range of option ROMs and video, [0xA0000, 0xF0000), is left out of the table; its own image [0xF0000, 1 MiB) is
//      RESERVED, wherever hvmloader began the BIOS area;
//   2. the last KiB of conventional memory is the extended BIOS data area: RESERVED;
//   3. the top 256 KiB of the highest RAM below 4 GiB are its zone of permanent tables: RESERVED. When it boots a disk it gives
//      the part it did not use back, whole pages from the lower end. With the tables of an emulated PC it has used one page
//      in every boot observed.
//
// Ranges above that, and everything that is not RAM, stay as they are. Not for guests with OVMF, which makes a map of its own.
import { E820_RAM, E820_RESERVED, type E820Entry, FOUR_GIB, MIB } from '../toolstack/e820.ts';
import { E820Overlay } from './e820-overlay.ts';

const CONVENTIONAL_END = 0xa0000;
const EBDA_BYTES = 1024;
const IMAGE_START = 0xf0000;
const HIGH_TABLES_BYTES = 256 * 1024;
const HIGH_TABLES_USED = 4096;

/** End of the RAM that the permanent tables are put at the top of; null: none is large enough. */
function highTablesEnd(entries: readonly E820Entry[]): number | null {
  const fit = entries.filter(
    ({ addr, size, type }) =>
      type === E820_RAM && addr + size >= MIB && addr + size < FOUR_GIB && size >= HIGH_TABLES_BYTES,
  );
  const highest = fit.at(-1);
  return highest ? highest.addr + highest.size : null;
}

export function seabiosE820(hvmloader: readonly E820Entry[]): readonly E820Entry[] {
  const map = new E820Overlay();
  for (const { addr, size, type } of hvmloader) map.lay(addr, addr + size, type);
  map.clear(CONVENTIONAL_END, IMAGE_START);
  map.lay(IMAGE_START, MIB, E820_RESERVED);
  map.lay(CONVENTIONAL_END - EBDA_BYTES, CONVENTIONAL_END, E820_RESERVED);
  const tables = highTablesEnd(map.entries);
  if (tables !== null) map.lay(tables - HIGH_TABLES_USED, tables, E820_RESERVED);
  return map.entries;
}
