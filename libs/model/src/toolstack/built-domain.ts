// What the toolstack remembers of a domain it built: enough to list, change, reboot and end it. Plain data.
import type { MemoryMapEntry } from '../hypercall/calls.ts';
import type { BuildInfo } from './build-info.ts';
import type { PciDevice } from './pci-spec.ts';

/** A device that a domain has, and where its windows were mapped. */
export interface AttachedDevice {
  readonly pci: PciDevice;
  readonly sbdf: number;
  readonly windows: readonly {
    readonly bar: number;
    readonly gfn: number;
    readonly mfn: number;
    readonly pages: number;
  }[];
}

export interface BuiltDomain {
  readonly domid: number;
  readonly incarnation: number;
  readonly build: BuildInfo;
  /** What the guest's kernel is given: the BIOS's table (HVM), the builder's map (PVH, PV). */
  readonly e820: readonly MemoryMapEntry[];
  /** hvmloader's own table, before the BIOS changes its copy; null without hvmloader. */
  readonly firmwareE820: readonly MemoryMapEntry[] | null;
  /** false: the firmware crashed, and the domain with it. */
  readonly firmwareOk: boolean;
  readonly devices: readonly AttachedDevice[];
}
