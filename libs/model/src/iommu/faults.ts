// DMA faults: hardware records them (a few registers per unit, lock-free), software reads them later, prints Xen's lines and
// cuts off a device that faults too often. What hardware cannot record for lack of a free register is counted and lost.
// Time comes in as a parameter.
import type { Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { backendOf } from './backend.ts';
import { FAULT_RECORDS, FAULT_WORDS, type Unit } from './iommu-state.ts';

const C_FAULTS = counter('dma.faults');
const C_UNLOGGED = counter('dma.unlogged');
const C_OFF = counter('dma.busMasterOff');

/** States of a record. */
const FREE = 0;
const TAKEN = 1;
const FULL = 2;
const READING = 3;
/** Words of a record. */
const STATE = 0;
const REQUESTER = 1;
const WRITE = 2;
const REASON = 3;
/** Words of faultIndex. */
const HARDWARE_NEXT = 0;
const SOFTWARE_NEXT = 1;
const OVERFLOW = 2;

/** Faults in a burst after which the device loses bus mastering (as Xen's PT_FAULT_THRESHOLD). */
const THRESHOLD = 10;
/** A pause longer than this halves the count. */
const QUIET_MS = 10;

export interface LoggedFault {
  readonly unit: number;
  /** The id that the request carried. */
  readonly sbdf: Sbdf;
  readonly dfn: number;
  readonly write: boolean;
  readonly reason: number;
  /** This fault cost the device its bus mastering. */
  readonly busMasterOff: boolean;
  readonly lines: readonly string[];
}

/** Hardware's side: takes the next register if it is free. */
export function recordFault(h: Host, unit: Unit, requester: number, dfn: number, write: boolean, reason: number): void {
  h.counters.add(C_FAULTS);
  const { faultWords, faultIndex, faultFrames } = unit;
  for (let attempt = 0; attempt < FAULT_RECORDS; attempt++) {
    const index = Atomics.load(faultIndex, HARDWARE_NEXT);
    const record = index % FAULT_RECORDS;
    const at = record * FAULT_WORDS;
    if (Atomics.compareExchange(faultWords, at + STATE, FREE, TAKEN) !== FREE) {
      // Another thread took this register just now: look at the next. Nobody moved on: the file is full.
      if (Atomics.load(faultIndex, HARDWARE_NEXT) !== index) continue;
      break;
    }
    if (Atomics.compareExchange(faultIndex, HARDWARE_NEXT, index, (index + 1) % FAULT_RECORDS) !== index) {
      Atomics.store(faultWords, at + STATE, FREE);
      continue;
    }
    faultWords[at + REQUESTER] = requester;
    faultWords[at + WRITE] = write ? 1 : 0;
    faultWords[at + REASON] = reason;
    faultFrames[record] = dfn;
    Atomics.store(faultWords, at + STATE, FULL);
    return;
  }
  Atomics.store(faultIndex, OVERFLOW, 1);
  h.counters.add(C_UNLOGGED);
}

/**
 * Software's side (Xen's fault tasklet): reads all full records, prints their lines, applies the storm control. Any thread may
 * call it, any number at a time; a DMA engine does after each burst. No lock.
 */
export function serviceFaults(h: Host, nowMs: number): LoggedFault[] {
  const logged: LoggedFault[] = [];
  for (const unit of h.iommu.units) {
    const { faultWords, faultIndex, faultFrames } = unit;
    for (;;) {
      const record = Atomics.load(faultIndex, SOFTWARE_NEXT);
      const at = record * FAULT_WORDS;
      if (Atomics.compareExchange(faultWords, at + STATE, FULL, READING) !== FULL) break;
      const { sbdf, device } = h.iommu.requesters.at(faultWords[at + REQUESTER] as number);
      const write = faultWords[at + WRITE] === 1;
      const reason = faultWords[at + REASON] as number;
      const dfn = faultFrames[record] as number;
      Atomics.store(faultIndex, SOFTWARE_NEXT, (record + 1) % FAULT_RECORDS);
      Atomics.store(faultWords, at + STATE, FREE);
      const lines = backendOf(h).faultLines(unit.config.id, sbdf, dfn, write, reason);
      for (const line of lines) h.platform.printk(line);
      // An id that no function has (a bridge passed the request on) can be blamed on nobody.
      const busMasterOff = device >= 0 && countFault(h, device, nowMs);
      logged.push({ unit: unit.config.id, sbdf, dfn, write, reason, busMasterOff, lines });
    }
    Atomics.store(faultIndex, OVERFLOW, 0);
  }
  return logged;
}

/** As pci_check_disable_device. True if this fault switched bus mastering off. */
function countFault(h: Host, device: number, nowMs: number): boolean {
  const { iommu } = h;
  const last = iommu.lastFaultMs[device] as number;
  let count = iommu.read(device, 'faultCount');
  if (nowMs < last || nowMs - last > QUIET_MS) count >>= 1;
  iommu.lastFaultMs[device] = nowMs;
  iommu.write(device, 'faultCount', ++count);
  if (count < THRESHOLD || busMasterIsOff(h, device)) return false;
  iommu.write(device, 'busMasterOff', 1);
  h.counters.add(C_OFF);
  return true;
}

/** A request that a bridge passes on under its own id needs the bridge's bus mastering too. */
export function busMasterIsOff(h: Host, device: number): boolean {
  const { iommu } = h;
  if (iommu.read(device, 'busMasterOff') !== 0) return true;
  const used = iommu.requesters.used(device, 0);
  if (used === device) return false;
  const via = iommu.requesters.at(used).device;
  return via >= 0 && iommu.read(via, 'busMasterOff') !== 0;
}

/** The device was (de)assigned: its fault count starts again. Bus mastering stays as it is. */
export const forgetFaults = (h: Host, device: number): void => h.iommu.write(device, 'faultCount', 0);

/** The device was reset and its driver set it up again: it may master the bus, and its fault count starts again. */
export function resetFaults(h: Host, device: number): void {
  forgetFaults(h, device);
  h.iommu.write(device, 'busMasterOff', 0);
}
