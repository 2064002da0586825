// The first moments of a guest kernel, on its boot CPU before the others run: it learns what RAM it has, makes its shared
// state, and its drivers take the memory they need before anything else can have it.
import type { Hypercalls, MemoryMapEntry } from '../hypercall/calls.ts';
import { errnoName } from '../hypercall/errno.ts';
import { type ActivityShared, bootActivities } from './activity/table.ts';
import { takeGpuBuffers } from './gpu-driver.ts';
import { createGuestMemory, GuestMemory, type GuestMemoryShared } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import type { GuestSink, GuestSpec } from './guest-spec.ts';
import { pvhE820, sanitizeE820 } from './linux-e820.ts';
import { pagesIn, ramRanges, takenRanges } from './ram-ranges.ts';

const PAGES_PER_MB = 256;
const PAGE = 4096;
const GIB_PAGES = 262_144;
const FOUR_GIB_PFN = 0x100000;

/** What every vCPU thread of the guest attaches to; structured-cloneable. */
export interface GuestShared {
  readonly spec: GuestSpec;
  readonly memory: GuestMemoryShared;
  /** Frames that drivers took at boot, by workload. */
  readonly buffers: Readonly<Record<string, readonly number[]>>;
  /** First gfn above everything the memory map knows, and above memory that may be hot-added. */
  readonly slotsBase: number;
  readonly activities: Readonly<Record<string, ActivityShared>>;
}

/** At or above 4 GiB, where no device's window lies, on a whole GiB. */
function firstUnused(entries: readonly MemoryMapEntry[], capacity: number): number {
  const end = entries.reduce(
    (top, { addr, size }) => Math.max(top, (addr + size) / PAGE),
    Math.max(capacity, FOUR_GIB_PFN),
  );
  return Math.ceil(end / GIB_PAGES) * GIB_PAGES;
}

/** Firmware's table, or the hypervisor's answer for a kernel that was started without firmware. */
function memoryMap(spec: GuestSpec, port: Hypercalls): readonly MemoryMapEntry[] {
  if (spec.e820 !== null) return sanitizeE820(spec.e820);
  const answer = port.call({ op: 'memory_map' });
  if (answer.rc < 0 || !answer.entries) throw new GuestPanic(`no memory map: ${errnoName(answer.rc)}`);
  return pvhE820(answer.entries);
}

/** Throws GuestPanic if there is no RAM to run in. Call on the boot CPU, once. */
export function bootGuest(spec: GuestSpec, port: Hypercalls, sink: GuestSink): GuestShared {
  const entries = memoryMap(spec, port);
  const ranges = ramRanges(entries);
  const ramPages = pagesIn(ranges);
  if (ramPages === 0) throw new GuestPanic('the memory map has no RAM');
  sink.event('e820', { entries, ramPages });
  const memory = createGuestMemory({
    ranges,
    taken: takenRanges(entries),
    vcpus: spec.vcpus,
    seed: spec.seed,
    unitPages: spec.balloon.order === '2m' ? 512 : 1,
    allocation: spec.balloon.order === '2m' ? 'top-down' : spec.allocation,
    hotplugPages: spec.balloon.hotplugMb * PAGES_PER_MB,
  });
  const view = new GuestMemory(memory, 0);
  const slotsBase = firstUnused(entries, memory.capacity);
  const activities = bootActivities(spec, view, slotsBase);
  const buffers: Record<string, readonly number[]> = {};
  for (const workload of spec.workloads) {
    if (workload.kind === 'gpu') buffers[workload.id] = takeGpuBuffers(view, workload);
  }
  return { spec, memory, buffers, slotsBase, activities };
}
