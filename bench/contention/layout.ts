// Where everything lies in the contention experiments' host, and how its threads tell each other what to do.
import type { HostShared } from '#model/host';

/** Largest operation, in pages: 4 GiB. */
export const MAX_PAGES = 2 ** 20;
export const MAX_OTHERS = 8;
/** gfns. Of dom0, what it lends. */
export const LENDER_RAM = 2 ** 20;
/** Of the guest: windows and RAM by page size, and what its vCPUs balloon, `BALLOON_PAGES` each. */
export const WINDOW = { 0: 2 ** 22, 9: 2 ** 22 + MAX_PAGES } as const;
export const RAM = { 0: 2 ** 20, 9: 2 ** 21 } as const;
export const BALLOON = 0x1000;
export const BALLOON_PAGES = 64;

export const controlWord = {
  phase: 0,
  running: 1,
  operation: 2,
  active: 3,
  violations: 4,
  ready: 5,
  mode: 6,
  failed: 7,
} as const;
/** How the threads run: free, or under virtual time. */
export const mode = { live: 0, virtual: 1 } as const;
/** `run` and above: a run, each with a number of its own, so that nobody takes the next one for the last. */
export const phase = { idle: 0, end: 1, run: 2 } as const;

export interface OtherWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly domid: number;
  readonly control: SharedArrayBuffer;
  readonly work: SharedArrayBuffer;
  readonly figures: SharedArrayBuffer;
  readonly virtual: SharedArrayBuffer;
  /** Virtual time at which a run ends. */
  readonly deadline: SharedArrayBuffer;
  /** The number of the guest's p2m lock. */
  readonly lock: number;
}
