// What the toolstack's operations stand on: hypercalls, xenstore, what the host is, and the pauses in which the process that
// runs an operation does something for it. An operation is a generator, so that it has no time and no queue of its own.
import type { DeviceConfig } from '../host-config.ts';
import type { Hypercalls, MemoryMapEntry } from '../hypercall/calls.ts';
import type { HostCaps } from './build-info.ts';
import type { BuiltDomain } from './built-domain.ts';
import type { LogLine } from './libxl-log.ts';

/** Nodes under /local/domain/N, by relative path. A write is visible to the guest before the operation's next pause ends. */
export interface Xenstore {
  read(domid: number, path: string): string | null;
  write(domid: number, path: string, value: string): void;
  /** With everything below it. */
  remove(domid: number, path: string): void;
  /** Names right below a path, sorted. */
  list(domid: number, path: string): readonly string[];
  /** All of a domain's nodes. */
  removeDomain(domid: number): void;
}

/** What is asked of the process between two hypercalls. */
export type Pause =
  /** The toolstack's own milliseconds, before the run's timeScale. */
  | { readonly do: 'sleep'; readonly ms: number }
  /** dom0's kernel maps these frames of the new domain and copies an image into them. */
  | { readonly do: 'copy-image'; readonly domid: number; readonly gfn: number; readonly pages: number }
  /** The domain's firmware printed these lines. */
  | { readonly do: 'console'; readonly domid: number; readonly lines: readonly string[] }
  /** The domain is built and paused: place its guest process. */
  | { readonly do: 'place-guest'; readonly domain: BuiltDomain }
  /** The domain is about to go: end its guest process. */
  | { readonly do: 'stop-guest'; readonly domid: number };

export type PauseResult = { readonly ok: true } | { readonly ok: false; readonly text: string };

/** Yields pauses, is resumed with their results, returns its own. */
export type Operation<R> = Generator<Pause, R, PauseResult>;

export interface ToolstackPorts {
  readonly port: Hypercalls;
  readonly xenstore: Xenstore;
  readonly devices: readonly DeviceConfig[];
  readonly caps: HostCaps;
  /** Physical address width of the host, in bits. */
  readonly physBits: number;
  /** The host's memory map, as XENMEM_machine_memory_map tells it. */
  readonly memoryMap: readonly MemoryMapEntry[];
}

/** An operation's end. `message` is the reason in a few words, `log` everything that was said, in order. */
export interface Failure {
  readonly ok: false;
  readonly rc: number;
  readonly message: string;
  readonly log: readonly LogLine[];
}
export type Done<T> = { readonly ok: true; readonly log: readonly LogLine[] } & T;
export type OpResult<T = unknown> = Done<T> | Failure;

/** `line` is the reason; `more` is what is said after it, each about the line before. */
export function failure(rc: number, line: LogLine, ...more: readonly LogLine[]): Failure {
  return { ok: false, rc, message: line.text, log: [line, ...more] };
}
