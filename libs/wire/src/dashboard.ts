// What the dashboard's server and its page in the browser say to each other, beside the looks of live.ts. Types only, so that
// the page carries no schema; the server checks what it is told (apps/dashboard).
import type { LiveWant } from './live.ts';

/** One line of the one log: Xen's console, faults, broken invariants, what guests and processes report. */
export interface HostEvent {
  /** Counts up without gaps within one server's life. */
  readonly seq: number;
  readonly tsMs: number;
  readonly kind: 'console' | 'fault' | 'violation' | 'guest' | 'domain';
  /** -1: the whole host. */
  readonly domid: number;
  readonly text: string;
  readonly fault?: HostFault;
  readonly invariant?: string;
  /** A guest's own memory map, as its firmware left it. */
  readonly e820?: readonly { readonly addr: number; readonly size: number; readonly type: number }[];
}

/** A logged DMA fault. */
export interface HostFault {
  readonly sbdf: number;
  readonly dfn: number;
  readonly write: boolean;
  readonly reason: number;
  readonly domid: number;
  readonly p2mType: string;
  readonly why: string;
  /** Xen's two lines. */
  readonly lines: readonly string[];
}

/** First message to a page. */
export interface Hello {
  readonly hostId: string;
  /** Another number: another server, whose events count anew. */
  readonly life: string;
  /** Whether this page may change the host. */
  readonly mayChange: boolean;
  readonly machine: unknown;
  /** Those that the page does not have yet, the oldest first. */
  readonly events: readonly HostEvent[];
  readonly lastSeq: number;
}

export interface EventBatch {
  readonly life: string;
  readonly events: readonly HostEvent[];
  /** Came too fast to be sent one by one; the newest of a burst are. */
  readonly skipped: number;
}

/** What a page asks about: answered once. */
export type Question =
  | { readonly ask: 'why'; readonly sbdf: number; readonly dfn: number }
  | { readonly ask: 'frame'; readonly mfn: number }
  | { readonly ask: 'gfn'; readonly domid: number; readonly gfn: number };

/** What a page wants done. */
export type Deed =
  | { readonly do: 'create'; readonly config: string }
  | { readonly do: 'destroy' | 'reboot' | 'shutdown' | 'pause' | 'unpause'; readonly domid: number }
  | { readonly do: 'mem-set'; readonly domid: number; readonly mb: number }
  | { readonly do: 'pci-assignable-add' | 'pci-assignable-remove'; readonly sbdf: string }
  | { readonly do: 'pci-attach' | 'pci-detach'; readonly domid: number; readonly sbdf: string }
  /** The guest's driver lets its device write to pages: those its CPUs never touched, some they did, or a frame. */
  | {
      readonly do: 'dma';
      readonly domid: number;
      readonly sbdf: number;
      readonly place: 'untouched' | 'touched' | number;
      readonly attempts: number;
    }
  /** Something for its CPUs to do: memory that is written and read again. 0 MiB: no more. */
  | { readonly do: 'work'; readonly domid: number; readonly mb: number }
  | { readonly do: 'check-invariants' };

export interface DeedResult {
  readonly ok: boolean;
  /** What the command printed, or why it was not done. */
  readonly text: string;
}

export type Answered<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

export interface ServerToPage {
  hello: (hello: Hello) => void;
  events: (batch: EventBatch) => void;
  /** Packed looks (live.ts). */
  looks: (message: ArrayBuffer) => void;
  /** The hypervisor is away or back. */
  host: (state: { readonly alive: boolean }) => void;
}

export interface PageToServer {
  wants: (wants: readonly LiveWant[]) => void;
  ask: (question: Question, reply: (answer: Answered<unknown>) => void) => void;
  do: (deed: Deed, reply: (result: DeedResult) => void) => void;
}
