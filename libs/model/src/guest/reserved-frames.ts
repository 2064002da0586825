// The frames that firmware reserved for a device, as the hypervisor tells anybody who asks.
import type { Hypercalls } from '../hypercall/calls.ts';

const MAX_REGIONS = 16;

/** Of the device's first region; empty if it has none. */
export function reservedFrames(port: Hypercalls, sbdf: number): readonly number[] {
  const answer = port.call({ op: 'reserved_device_memory_map', flags: 0, sbdf, capacity: MAX_REGIONS });
  const region = answer.entries?.[0];
  return region ? Array.from({ length: region.nrPages }, (_, i) => region.startPfn + i) : [];
}
