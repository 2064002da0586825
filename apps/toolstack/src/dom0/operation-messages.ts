// What the main thread and an operation thread say to each other, beside the synchronous port between them.
import type { DeviceConfig } from '#model/host-config';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { HostCaps } from '#model/toolstack/build-info';
import type { SyncPortEnd } from '#wire/sync-port-thread';

/** What the operations stand on that a thread can be given as plain data. */
export interface HostFacts {
  readonly devices: readonly DeviceConfig[];
  readonly caps: HostCaps;
  readonly physBits: number;
  readonly memoryMap: readonly MemoryMapEntry[];
}

export interface OperationThreadData {
  readonly end: SyncPortEnd;
}

export interface ToOperationThread {
  readonly name: string;
  readonly args: readonly unknown[];
  readonly facts: HostFacts;
}

export type FromOperationThread =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: { readonly code: string; readonly message: string } };

/** Names under which the main thread serves an operation beside hypercalls; their arguments are tuples. */
export const service = {
  xsRead: 'xs-read',
  xsWrite: 'xs-write',
  xsRemove: 'xs-remove',
  xsList: 'xs-list',
  xsRemoveDomain: 'xs-remove-domain',
  pause: 'pause',
} as const;
