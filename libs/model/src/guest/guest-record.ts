// The words all vCPUs of one guest kernel share beside its page states: how far it has booted and what its balloon counts.
import { defineRecord } from '../shared-memory/record.ts';

/** Values of `phase`: late init waits for the first ballooning, as Linux does. */
export const guestPhase = { booting: 0, lateInit: 1, running: 2, dead: 3 } as const;

export const guestRecord = defineRecord('guest', {
  /** (atomic) */
  phase: 'i32',
  /** State of the page chooser's generator; guest allocator lock. */
  random: 'i32',
  /** Highest 2M block that may have a free page; guest allocator lock. */
  topHint: 'i32',

  // guest allocator lock
  freePages: 'f64',
  /** Pages the kernel knows, present or ballooned out. */
  ramPages: 'f64',
  /** One past the highest page it knows. */
  endGfn: 'f64',
  /** Ballooned extents as a stack: first gfn + 1 of the top one, and how many. */
  balloonTop: 'f64',
  balloonUnits: 'f64',

  // written by the balloon's vCPU only
  currentPages: 'f64',
  targetPages: 'f64',
});

export type GuestRecord = typeof guestRecord extends { view(b: SharedArrayBuffer, i: number, n: number): infer V }
  ? V
  : never;
