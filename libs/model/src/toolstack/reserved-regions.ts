// XENMEM_reserved_device_memory_map as libxc's callers make it: asked with no room first, for the number.
import type { Hypercalls } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import type { RdmRegion } from './construct-rdm.ts';

/** Regions of a device, or with RDM_ALL of all; null: the hypervisor refuses to tell. */
export function reservedRegions(port: Hypercalls, flags: number, sbdf: number): readonly RdmRegion[] | null {
  const op = 'reserved_device_memory_map';
  const first = port.call({ op, flags, sbdf, capacity: 0 });
  if (first.rc === 0) return [];
  if (first.rc !== -errno.ENOBUFS) return null;
  const second = port.call({ op, flags, sbdf, capacity: first.required ?? 0 });
  return second.rc < 0 ? null : (second.entries ?? []);
}
