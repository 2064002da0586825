// The records that a host's streams carry, as the runner reads them. Written by processes of this same version, so their form is
// trusted; one that cannot be read is null and counted by the reader.
import type { Call } from '#model/hypercall/calls';
import type { FaultCause } from '#model/iommu/fault-cause';

/** A logged DMA fault, with what the tables held right after it. */
export interface FaultRecord {
  readonly kind: 'dma-fault';
  readonly tsUs: number;
  readonly sbdf: number;
  readonly dfn: number;
  readonly write: boolean;
  readonly reason: number;
  readonly cause: FaultCause | null;
}

/** An event invariant that was violated. */
export interface ViolationRecord {
  readonly kind: 'violation';
  readonly tsUs: number;
  readonly invariant: string;
  readonly text: string;
  readonly evidence: Readonly<Record<string, number | string>>;
}

export interface CallSpanRecord {
  readonly kind: 'call';
  readonly tsUs: number;
  readonly durUs: number;
  readonly domid: number;
  readonly vcpu: number;
  readonly pcpu: number;
  readonly op: string;
  readonly calls: number;
  readonly rc: number;
}

export interface DmaSpanRecord {
  readonly kind: 'dma';
  readonly tsUs: number;
  readonly durUs: number;
  readonly thread: number;
  readonly sbdf: number;
  readonly job: number;
  readonly completed: number;
  readonly faults: number;
}

/** One call of a finished multicall; a long multicall ends with one record that has `more` instead. */
export interface HistoryRecord {
  readonly tsUs: number;
  readonly domid: number;
  readonly vcpu: number;
  readonly seq: number;
  readonly call?: Partial<Call> & { readonly op?: string; readonly cut?: string };
  readonly answer?: { readonly rc?: number };
  readonly more?: number;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const isRecord = (value: unknown): value is { readonly kind?: unknown } => typeof value === 'object' && value !== null;

export function faultOrViolation(record: Buffer): FaultRecord | ViolationRecord | null {
  const value = parse(record.toString());
  if (!isRecord(value) || (value.kind !== 'dma-fault' && value.kind !== 'violation')) return null;
  return value as FaultRecord | ViolationRecord; // by its kind
}

export function traceRecord(record: Buffer): CallSpanRecord | DmaSpanRecord | null {
  const value = parse(record.toString());
  if (!isRecord(value) || (value.kind !== 'call' && value.kind !== 'dma')) return null;
  return value as CallSpanRecord | DmaSpanRecord; // by its kind
}

/** A record holds the lines of one multicall. */
export function historyRecords(record: Buffer): HistoryRecord[] {
  return record
    .toString()
    .split('\n')
    .map((line) => (line === '' ? null : parse(line)))
    .filter((value): value is HistoryRecord => isRecord(value));
}

/** Operation of a call whose arguments were too long to be kept whole. */
export function opOf({ call }: HistoryRecord): string | null {
  if (!call) return null;
  if (typeof call.op === 'string') return call.op;
  return /^\{"op":"([a-z_0-9]+)"/.exec(call.cut ?? '')?.[1] ?? null;
}
