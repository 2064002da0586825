// A machine as preflight looks at it: what Xen would boot on (a host description, from a file or made from firmware's tables and
// logs) and, beside it, what firmware really wrote, with the place where each thing stands. Owns the shape; knows no format.
import type { TableFinding } from '#formats/acpi/finding';
import type { HostDescription, HostRegion } from '#formats/host-file';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { ByteRange } from './ranges.ts';

/** Devices a reserved range is for: one (first = last), or all between two (IVRS type 22h), as firmware names them. */
export interface DeviceRange {
  readonly first: Sbdf;
  readonly last: Sbdf;
  /** As the table has it: `00:1c.0/00.2` is a path over a bridge. */
  readonly text: string;
}

/** Memory that firmware keeps for devices: an RMRR (Intel) or an IVMD (AMD). Not yet believed. */
export interface ReservedRange extends ByteRange {
  readonly kind: 'RMRR' | 'IVMD';
  /** Where it stands: `DMAR offset 0x78`. */
  readonly place: string;
  readonly segment: number;
  readonly scopes: readonly DeviceRange[];
  /** Paths over bridges that nothing given resolves. */
  readonly unresolved: readonly string[];
  /** What its devices may do there. */
  readonly access: 'rw' | 'r' | 'w';
}

/** What only a listing of the machine tells of a device; null: it does not say. */
export interface DeviceFacts {
  /** Linux's group. */
  readonly iommuGroup: number | null;
  readonly driver: string | null;
  readonly flr: boolean | null;
  /** Nobody listed it: firmware's tables name it, and all else about it is a guess. */
  readonly guessed: boolean;
}

/** Something that had to be assumed, for the comments of a written description and for the reader. */
export interface Assumption {
  readonly about: 'memoryMap' | 'cpu' | 'memory' | 'iommu' | 'devices' | 'rmrrs';
  readonly text: string;
}

export interface Machine {
  readonly host: HostDescription;
  readonly iommu: 'VT-d' | 'AMD-Vi' | 'none';
  /** Where the table's facts come from, for messages: a file's name. */
  readonly tableFile: string | null;
  /** The map as firmware gives it, before Xen reserves what ranges of firmware ask for. */
  readonly firmwareMap: readonly HostRegion[];
  /** false: the map was assumed, not given. */
  readonly mapKnown: boolean;
  /** All devices of the machine are listed; else more may be there. */
  readonly devicesComplete: boolean;
  readonly ranges: readonly ReservedRange[];
  readonly facts: ReadonlyMap<Sbdf, DeviceFacts>;
  readonly assumptions: readonly Assumption[];
  /** What is wrong or remarkable in firmware's table by itself. */
  readonly tableFindings: readonly TableFinding[];
  /** Said by the parsers: anomalies of the table, lines that could not be read. */
  readonly complaints: readonly string[];
}

export const covers = (range: ReservedRange, sbdf: Sbdf): boolean =>
  range.scopes.some(({ first, last }) => first <= sbdf && sbdf <= last);

/** How many devices the table names for a range: Xen counts the entries, whether the devices exist or not. */
export const scopeCount = (range: ReservedRange): number => range.scopes.length + range.unresolved.length;

/** VT-d counts what the table names; AMD-Vi does not look. */
export const isShared = (range: ReservedRange): boolean => range.kind === 'RMRR' && scopeCount(range) > 1;

/** Only one device: the usual case, in which nothing is shared. */
export const isSingle = ({ first, last }: DeviceRange): boolean => first === last;

/** Without the segment where it is 0, as people write it. */
export const bdfText = (sbdf: Sbdf): string => formatSbdf(sbdf).replace(/^0000:/, '');
