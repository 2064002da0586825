// What firmware leaves in the memory it reserved for devices (RMRRs): a tag in each frame, by which anybody who reads it knows
// that it is firmware's own. Keyboard emulation of a USB controller and a graphics adapter's stolen memory lie there.

import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';

const SIGNATURE = 0x2a464d57;

/** Never zero, and another one in each frame. */
export const firmwareTag = (pfn: number): number => (SIGNATURE ^ Math.imul(pfn + 1, 0x9e3779b1)) & 0x7fffffff || 1;

/** Frames that an RMRR covers although the heap has them are left alone: such a table is wrong, and Xen says so. */
export function writeFirmwareMemory(h: Host): void {
  const { frames, config } = h;
  for (const { startPfn, endPfn } of config.rmrrs) {
    for (let pfn = startPfn; pfn <= Math.min(endPfn, config.frames - 1); pfn++) {
      if (config.heapRanges.some(({ start, end }) => pfn >= start && pfn < end)) continue;
      frames.setFlag(pfn as Mfn, frameFlag.firmware);
      Atomics.store(frames.tag, pfn, firmwareTag(pfn));
    }
  }
}
