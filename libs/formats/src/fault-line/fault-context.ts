// What is known of the machine and the guest beside a fault line, and where an address lies in it. Owns the classification of an
// address; draws no conclusion.
import { entryAt } from '../memory-map-log/rmrr-cover.ts';

export interface ReservedRange {
  readonly base: number;
  /** Inclusive. */
  readonly limit: number;
  /** SBDFs, or spans of them; empty where who it is for is not known. */
  readonly devices: readonly string[];
  /** Whether it is for this device; the listed ones where absent. */
  readonly covers?: (sbdf: string) => boolean;
  /** Where it stands: `the DMAR table`, `the log`, … */
  readonly place: string;
  /** A line says that the host's map does not reserve it. */
  readonly notReserved?: boolean;
}

export interface GuestRegion {
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
  readonly isRam: boolean;
  /** As a sentence goes on: `RAM of the guest`, `BAR 0 of …`. */
  readonly what: string;
}

export interface GuestFacts {
  readonly name: string;
  /** MiB by which the guest starts smaller than it may grow: the size of what is populated on demand. */
  readonly podMib: number;
  readonly devices: readonly string[];
  /** Where the guest has something; null where its layout could not be planned, which `refusal` then explains. */
  readonly regions: readonly GuestRegion[] | null;
  readonly refusal: string | null;
}

export interface FaultContext {
  /** The host's; empty where none was given. */
  readonly map: readonly { readonly start: number; readonly end: number; readonly type: string }[];
  readonly reserved: readonly ReservedRange[];
  /** What a listing calls the devices. */
  readonly names: ReadonlyMap<string, string>;
  readonly guest: GuestFacts | null;
}

export const emptyContext: FaultContext = { map: [], reserved: [], names: new Map(), guest: null };

export type HostPlace = 'ram' | 'reserved' | 'hole' | 'above-ram' | 'unknown';

export interface AddressPlace {
  readonly host: HostPlace;
  readonly range: ReservedRange | null;
  /** Each a sentence without its full stop. */
  readonly sentences: readonly string[];
}

const FOUR_GIB = 2 ** 32;
const hex = (value: number): string => value.toString(16);

export function placeOf(address: number, { map, reserved, guest }: FaultContext): AddressPlace {
  const range = reserved.find(({ base, limit }) => base <= address && address <= limit) ?? null;
  const [host, sentence] = hostPlace(address, map);
  const sentences = [sentence];
  if (range !== null) sentences.push(rangeSentence(range));
  else if (reserved.length > 0) {
    sentences.push(`it is in no reserved range that is known here (${reserved.length})`);
  }
  if (guest?.regions) {
    const found = guest.regions.filter(({ start, end }) => start <= address && address <= end);
    const what =
      found.length === 0 ? 'nothing: no RAM, no BAR, no reserved range' : found.map((r) => r.what).join(' and ');
    sentences.push(`as an address of the guest ${guest.name} it is ${what}`);
  }
  return { host, range, sentences };
}

function hostPlace(address: number, map: FaultContext['map']): [HostPlace, string] {
  const at = hex(address);
  if (map.length === 0) {
    const shape = address < FOUR_GIB ? 'below 4 GiB' : `above 4 GiB (at ${(address / 2 ** 30).toFixed(1)} GiB)`;
    return ['unknown', `address ${at} lies ${shape}; the host's memory map is not known here`];
  }
  const entry = entryAt(map, address);
  if (entry !== undefined) {
    const where = `the host's map has ${at} in ${hex(entry.start)}-${hex(entry.end)}, ${entry.type}`;
    return [entry.type === 'usable' ? 'ram' : 'reserved', where];
  }
  const top = map.reduce((end, region) => (region.type === 'usable' ? Math.max(end, region.end + 1) : end), 0);
  if (address >= Math.max(top, FOUR_GIB))
    return ['above-ram', `address ${at} lies beyond the end of the host's RAM (${hex(top)})`];
  return ['hole', `address ${at} lies in a hole of the host's map: neither RAM nor reserved`];
}

function rangeSentence({ base, limit, devices, place }: ReservedRange): string {
  const whose = devices.length === 0 ? '' : ` for ${devices.join(', ')}`;
  return `it lies in the reserved range ${hex(base)}-${hex(limit)} that ${place} names${whose}`;
}

export const isFor = ({ devices, covers }: ReservedRange, sbdf: string): boolean =>
  covers?.(sbdf) ?? devices.includes(sbdf);

/** Without the function. */
const slotOf = (sbdf: string): string => sbdf.slice(0, sbdf.lastIndexOf('.'));

/** Of a range's devices, the functions of this device's slot. */
export const siblingsIn = ({ devices }: ReservedRange, device: string): readonly string[] =>
  devices.filter((other) => slotOf(other) === slotOf(device));

/** A reserved range for other functions of the device's slot, and not for itself. */
export function rangeOfSiblings(device: string, reserved: readonly ReservedRange[]): ReservedRange | undefined {
  return reserved.find((range) => !isFor(range, device) && siblingsIn(range, device).length > 0);
}
