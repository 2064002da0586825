// Brings hvmloader's memory map back in step with its page ends after it moved RAM. As adjust_memory_map, with its quirks:
// any RAM entry that strictly holds the low end is cut there, and a high entry stays if high memory has become nothing.

import { E820_RAM, type E820Entry, FOUR_GIB } from '../toolstack/e820.ts';
import { type HvmInfo, lowMemEnd, PAGE } from './memory-map-setup.ts';

export function adjustMemoryMap(info: HvmInfo): void {
  const lowEnd = lowMemEnd(info);
  const highEnd = info.highMemPgend * PAGE;
  let highPending = highEnd !== 0;
  const adjusted: E820Entry[] = info.memoryMap.map((entry) => {
    if (entry.type !== E820_RAM) return entry;
    if (lowEnd > entry.addr && lowEnd < entry.addr + entry.size) return { ...entry, size: lowEnd - entry.addr };
    if (highPending && entry.addr === FOUR_GIB) {
      highPending = false;
      return { ...entry, size: highEnd - entry.addr };
    }
    return entry;
  });
  if (highPending) adjusted.push({ addr: FOUR_GIB, size: highEnd - FOUR_GIB, type: E820_RAM });
  info.memoryMap = adjusted;
}
