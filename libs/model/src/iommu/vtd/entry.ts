// Second-level slots of VT-d: frame * 2^16 + bits
//   0 R   1 W   3 SP   7:4 contiguity marker   8 "frame is not the domain's own" (software)   14 SNP
// R, W, SP and SNP stand where EPT slots have them, so that one hardware walk serves separate and shared tables. Absent =
// neither R nor W. A table names its page in the arena of table pages.
import type { Host } from '../../host.ts';
import { makeSlot, SLOT_R, SLOT_SP, SLOT_W } from '../../p2m/entry.ts';
import { publish, store } from '../../shared-memory/slots.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import type { TableIndex } from '../../shared-memory/table-pages.ts';

/** When it was mapped the frame was not the domain's own: foreign, granted, MMIO, reserved. */
export const SLOT_LENT = 1 << 8;
export const SLOT_PRESENT = SLOT_R | SLOT_W;

export const isPresent = (slot: number): boolean => (slot & SLOT_PRESENT) !== 0;
export const isTable = (slot: number, level: number): boolean =>
  level > 0 && (slot & SLOT_PRESENT) !== 0 && (slot & SLOT_SP) === 0;

/** One store makes a finished table visible. 0, or a negative errno without effect. */
export function linkTable(h: Host, index: number, table: TableIndex): number {
  const failed = step(stepKind.ioWrite, index);
  if (failed !== 0) return -failed;
  publish();
  store(h.tables.slots, index, makeSlot(table, SLOT_PRESENT));
  return 0;
}
