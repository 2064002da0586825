// A host description (hosts/*.yaml): what firmware and hardware of one machine tell Xen at boot. Owns the
// description and its loader; the written form is host-schema.ts's, the rules it must satisfy host-checks.ts's. Knows no policy.
import { readFileSync } from 'node:fs';
import type { Sbdf } from '#model/frames/addresses';
import { checkHost } from './host-checks.ts';
import { type barKinds, hostSchema, type ParsedHost, type pciKinds, type regionTypes } from './host-schema.ts';
import { OperatorError } from './operator-error.ts';
import { YamlSource } from './yaml-source.ts';

export type RegionType = (typeof regionTypes)[number];
export type BarKind = (typeof barKinds)[number];

export interface HostRegion {
  /** Bytes; `end` is the last byte. */
  readonly start: number;
  readonly end: number;
  readonly type: RegionType;
}

export interface HostIommuUnit {
  /** The number Xen prints (`on iommu:N`). */
  readonly id: number;
  readonly caps: {
    readonly superpages: readonly ('2M' | '1G')[];
    readonly snoop: boolean;
    readonly cachingMode: boolean;
    readonly psi: boolean;
    readonly maxAm: number;
    readonly agaw: 39 | 48;
    readonly ats: boolean;
    readonly rwbf: boolean;
    readonly domainIds: number;
    readonly queuedInvalidation: boolean;
  };
  readonly devices: readonly Sbdf[];
  readonly includeAll: boolean;
}

export interface HostBar {
  readonly index: number;
  readonly size: number;
  readonly kind: BarKind;
  readonly hostAddr: number;
}

export interface HostDevice {
  readonly sbdf: Sbdf;
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  /** 24-bit class code. */
  readonly pciClass: number;
  readonly bars: readonly HostBar[];
  /** Id of the unit that translates for it. */
  readonly iommu: number | null;
  readonly upstreamBridge: Sbdf | null;
  readonly hasFlr: boolean;
  /** null: from the class code. */
  readonly kind: (typeof pciKinds)[number] | null;
  /** Of a bridge; null: the lowest bus of the devices behind it. */
  readonly secondaryBus: number | null;
  readonly phantomStride: 1 | 2 | 4 | null;
  readonly ats: boolean;
  readonly physicalFunction: Sbdf | null;
  /** Not there at boot. */
  readonly hotplug: boolean;
}

/** A GPU that dom0 can share among guests. */
export interface HostSharedGpu {
  readonly device: Sbdf;
  readonly graphicsMemoryMb: number;
  /** Window of the GPU through which CPUs reach the first part of its graphics memory. */
  readonly apertureBar: number;
  readonly tables: number;
}

export interface HostRmrr {
  /** Bytes; `end` is the last byte. */
  readonly start: number;
  readonly end: number;
  readonly devices: readonly Sbdf[];
}

export interface HostDescription {
  readonly file: string;
  readonly name: string;
  /** Which machine or which public figures this is made from. */
  readonly source: string;
  /** Sorted by start, without overlaps. */
  readonly memoryMap: readonly HostRegion[];
  readonly pcpus: number;
  readonly dom0: { readonly memoryMb: number; readonly vcpus: number };
  readonly hap: boolean;
  readonly ept: { readonly superpages: readonly ('2M' | '1G')[] };
  readonly iommuUnits: readonly HostIommuUnit[];
  readonly quarantine: 'basic' | 'none' | 'scratch-page';
  readonly devices: readonly HostDevice[];
  readonly rmrrs: readonly HostRmrr[];
  /** Xen's command line option `rmrr=`, or null. */
  readonly rmrrOption: string | null;
  /** I/O memory that only Xen may write (bytes; `end` is the last one). */
  readonly mmioReadOnly: readonly { readonly start: number; readonly end: number }[];
  readonly sharedGpus: readonly HostSharedGpu[];
  readonly busSpaceMb: number;
  readonly xenReservedMb: number;
  readonly heapLimitMb: number | null;
}

/** Reads and checks a description; throws OperatorError with every mistake in it. */
export function parseHost(text: string, file: string): HostDescription {
  const source = new YamlSource(text, file);
  const parsed = source.check(hostSchema, []);
  if (parsed) checkHost(parsed, source);
  source.throwIfAny();
  if (!parsed) throw new Error('parseHost: a refused file without a problem');
  return describe(parsed, file);
}

/** `file` is the name messages use; `path` where it is. */
export function loadHost(path: string, file: string = path): HostDescription {
  return parseHost(readText(path, file, 'name a host description, such as hosts/seed-2014-haswell.yaml'), file);
}

/** Text of an operator's file; throws OperatorError if it cannot be read. */
export function readText(path: string, file: string, remedy: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const message = code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`;
    throw new OperatorError([{ file, message, remedy }]);
  }
}

function describe(parsed: ParsedHost, file: string): HostDescription {
  const unitOf = (sbdf: Sbdf): number | null =>
    (parsed.iommuUnits.find((u) => u.devices?.includes(sbdf)) ?? parsed.iommuUnits.find((u) => u.includeAll))?.id ??
    null;
  return {
    file,
    name: parsed.name,
    source: parsed.source,
    memoryMap: parsed.memoryMap.toSorted((a, b) => a.start - b.start),
    pcpus: parsed.pcpus,
    dom0: parsed.dom0,
    hap: parsed.hap,
    ept: parsed.ept,
    iommuUnits: parsed.iommuUnits.map((u) => ({ ...u, devices: u.devices ?? [] })),
    quarantine: parsed.quarantine,
    devices: parsed.devices.map((d) => ({
      sbdf: d.sbdf,
      name: d.name,
      vendor: d.id.vendor,
      device: d.id.device,
      pciClass: d.class,
      bars: d.bars,
      iommu: d.iommu ?? unitOf(d.sbdf),
      upstreamBridge: d.upstreamBridge ?? null,
      hasFlr: d.hasFlr,
      kind: d.kind ?? null,
      secondaryBus: d.secondaryBus ?? null,
      phantomStride: d.phantomStride ?? null,
      ats: d.ats,
      physicalFunction: d.physicalFunction ?? null,
      hotplug: d.hotplug,
    })),
    rmrrs: parsed.rmrrs,
    rmrrOption: parsed.rmrr ?? null,
    mmioReadOnly: parsed.mmioReadOnly,
    sharedGpus: parsed.sharedGpus,
    busSpaceMb: parsed.busSpaceMb,
    xenReservedMb: parsed.xenReservedMb,
    heapLimitMb: parsed.heapLimitMb ?? null,
  };
}
