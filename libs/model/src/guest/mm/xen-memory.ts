// A kernel on Xen: where its page frames lie in its guest-physical space, and their contents behind the p2m. Loads and stores are
// guest accesses and take their exits; that they happen under a lock of the kernel's is what any kernel does.
import type { Hypercalls } from '../../hypercall/calls.ts';
import type { FrameContent, FrameIndex, PoolSizes } from './frame-pools.ts';

export interface XenFrames {
  /** First gfn of each pool. */
  readonly ram: number;
  readonly vram: number;
  readonly slot: number;
}

export class XenMemory implements FrameContent {
  private readonly port: Hypercalls;
  private readonly bases: XenFrames;
  private readonly sizes: PoolSizes;

  constructor(port: Hypercalls, bases: XenFrames, sizes: PoolSizes) {
    this.port = port;
    this.bases = bases;
    this.sizes = sizes;
  }

  gfnOf(frame: FrameIndex): number {
    const { ram, vram } = this.sizes;
    if (frame < ram) return this.bases.ram + frame;
    return frame < ram + vram ? this.bases.vram + frame - ram : this.bases.slot + frame - ram - vram;
  }

  read(frame: FrameIndex): number {
    return this.port.call({ op: 'load', frames: { start: this.gfnOf(frame), count: 1 } }).tags?.[0] ?? -1;
  }

  write(frame: FrameIndex, tag: number): void {
    this.port.call({ op: 'store', frames: { start: this.gfnOf(frame), count: 1 }, tag });
  }
}
