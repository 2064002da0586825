// How a domain is started on a host with squeezed, as xenopsd does it: memory is reserved first (other guests give it up), the
// domain is built with what the reservation came to, the reservation passes to it and is deleted when it is built. Owns the
// sizes of that; an xl.cfg says the range by memory= and maxmem=.
import type { GuestConfig } from './guest-config.ts';
import { targetFudgeKb } from './memory-maths.ts';
import { readKb } from './memory-ops.ts';
import type { Operation, OpResult, ToolstackPorts } from './ports.ts';
import { reserveMemoryRange, type SqueezedSettings } from './squeezed-loop.ts';
import type { Reservation } from './squeezed-reservations.ts';
import { DYNAMIC_MAX, DYNAMIC_MIN } from './squeezed-snapshot.ts';

/** The range that squeezed may move a domain's memory in, as its configuration counts memory. */
export interface DynamicRange {
  readonly minKb: number;
  readonly maxKb: number;
}

export interface SqueezedStart extends SqueezedSettings {
  readonly reservation: Reservation;
  /** null: what the configuration says. */
  readonly range: DynamicRange | null;
}

type Sizes = Pick<GuestConfig, 'type'> & {
  readonly maxMemkb: number;
  readonly targetMemkb: number;
  readonly videoMemkb: number;
};

export function dynamicRange(config: GuestConfig, defaultKb: number): DynamicRange {
  const maxKb = config.maxMemkb ?? defaultKb;
  return { minKb: config.targetMemkb ?? maxKb, maxKb };
}

/** The range of a domain that there is, to be kept over a restart; null: it has none. */
export function readDynamicRange(ports: ToolstackPorts, domid: number, sizes: Sizes): DynamicRange | null {
  const min = readKb(ports, domid, DYNAMIC_MIN);
  const max = readKb(ports, domid, DYNAMIC_MAX);
  if (min === null || max === null) return null;
  const fudge = targetFudgeKb(sizes);
  return { minKb: min + fudge, maxKb: Math.min(max + fudge, sizes.maxMemkb) };
}

/** In the units of memory/target. */
export function writeDynamicRange(ports: ToolstackPorts, domid: number, range: DynamicRange, sizes: Sizes): void {
  const fudge = targetFudgeKb(sizes);
  ports.xenstore.write(domid, DYNAMIC_MIN, String(range.minKb - fudge));
  ports.xenstore.write(domid, DYNAMIC_MAX, String(range.maxKb - fudge));
}

/** Reserves for a domain that costs `overheadKb` beyond its memory; gives the memory to build it with. */
export function* reserveForDomain(
  ports: ToolstackPorts,
  { minKb, maxKb }: DynamicRange,
  overheadKb: number,
  start: SqueezedStart,
): Operation<OpResult<{ readonly targetMemkb: number }>> {
  const wanted = { minKb: minKb + overheadKb, maxKb: maxKb + overheadKb };
  const reserved = yield* reserveMemoryRange(ports, start.reservation, wanted, start);
  return reserved.ok ? { ok: true, log: [], targetMemkb: reserved.kb - overheadKb } : reserved;
}
