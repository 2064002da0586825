// A process of a guest's kernel for an activity: its address space and page frames (guest/mm), with contents behind the p2m. The
// frames are a 2M run of the guest's own RAM, so that a run of them can be shared as a superpage, and gfns that nothing uses.
import type { Hypercalls } from '../../hypercall/calls.ts';
import { pageState } from '../guest-memory.ts';
import { GuestPanic } from '../guest-panic.ts';
import type { PoolSizes } from '../mm/frame-pools.ts';
import { createMm, defaultMm, type MmConfig, type MmShared } from '../mm/mm-config.ts';
import { XenMemory } from '../mm/xen-memory.ts';
import type { BootPlace } from './activity.ts';

const RUN = 512;

export interface ProcessData {
  readonly mm: MmShared;
  /** First gfn of the run. */
  readonly base: number;
}

/** A process with the frames of `sizes`; RAM and the GPU's memory from one run, slots at `unusedGfn`. */
export function bootProcess(config: Partial<MmConfig> & { readonly frames: PoolSizes }, place: BootPlace): ProcessData {
  const base = place.memory.allocRun(pageState.pinned);
  if (base < 0 || config.frames.ram + config.frames.vram > RUN) throw new GuestPanic('no 2M run of memory is free');
  const tasks = Array.from({ length: place.guest.vcpus }, (_, vcpu) => config.tasks?.[vcpu] ?? `vcpu${vcpu}`);
  return { mm: createMm({ ...defaultMm, ...config, tasks }), base };
}

/** Its memory as the vCPU behind `port` reaches it. */
export const processMemory = ({ mm, base }: ProcessData, port: Hypercalls, unusedGfn: number): XenMemory => {
  const { frames } = mm.config;
  return new XenMemory(port, { ram: base, vram: base + frames.ram, slot: unusedGfn }, frames);
};
