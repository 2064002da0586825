// What a run found, as plain data, and how its verdict follows. Runners fill these types; verdict.json is their JSON and
// report.html their picture. Nothing here runs, reads or writes anything.
//
// A twin passes when every assertion about it holds: a buggy twin that breaks as asserted *passes*. "Unknown" is not a
// failure: something could not be observed (a timeout, a lost record).
import type { LockProfileRow } from '#formats/lockprof';
import type { MemoryMapEntry } from '#model/hypercall/calls';

export type Verdict = 'pass' | 'fail' | 'unknown';

export interface AssertionOutcome {
  readonly text: string;
  readonly expected: string;
  readonly found: string;
  readonly ok: boolean | 'unknown';
  /** Where to see it: a log line, a record, a count. */
  readonly evidence?: string;
}

export interface InvariantViolation {
  /** Name as in libs/model/src/invariants. */
  readonly invariant: string;
  readonly count: number;
  readonly first: { readonly text: string; readonly tsUs: number; readonly evidence?: string };
}

export interface DmaFault {
  readonly tsUs: number;
  /** The device and the domain that had it. */
  readonly sbdf: number;
  readonly domid: number;
  readonly dfn: number;
  /** VT-d's reason code. */
  readonly reason: number;
  /** Xen's log line or lines for it. */
  readonly text: string;
}

export interface ReportTable {
  readonly caption: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Why it happened, in words. Text between backticks is shown as code. */
export interface Explanation {
  readonly title: string;
  readonly paragraphs: readonly string[];
  readonly tables?: readonly ReportTable[];
}

export type SegmentKind = 'ram' | 'pod' | 'hole' | 'mmio' | 'rmrr' | 'reserved';

/** A range of guest frames; `endGfn` is the first frame after it. */
export interface MemorySegment {
  readonly startGfn: number;
  readonly endGfn: number;
  readonly kind: SegmentKind;
  readonly label: string;
}

/** Which dfns the IOMMU translated at the moment the picture was taken; `endDfn` is the first after the range. */
export interface IommuSegment {
  readonly startDfn: number;
  readonly endDfn: number;
  readonly mapped: boolean;
}

export interface TimelineEvent {
  readonly tsUs: number;
  /** The actor: Xen, dom0, a guest, a device, the operator. */
  readonly who: string;
  readonly what: string;
  readonly detail?: string;
  /** How it is drawn; `bad` is a fault, a crash, a broken invariant. */
  readonly tone?: 'plain' | 'good' | 'bad';
}

export interface TwinResult {
  readonly name: string;
  readonly title?: string;
  readonly kind: 'buggy' | 'fixed' | 'plain';
  readonly policies: Readonly<Record<string, string>>;
  readonly attempts: number;
  readonly verdict: Verdict;
  readonly assertions: readonly AssertionOutcome[];
  readonly violations: readonly InvariantViolation[];
  /** The first MAX_FAULTS_KEPT; `faultCount` counts all. */
  readonly faults: readonly DmaFault[];
  readonly faultCount: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly explanation: readonly Explanation[];
  readonly e820?: readonly MemoryMapEntry[];
  readonly memoryMap?: readonly MemorySegment[];
  readonly iommuMap?: readonly IommuSegment[];
  readonly locks: readonly LockProfileRow[];
  readonly timeline: readonly TimelineEvent[];
  readonly durationMs: number;
}

export interface RunResult {
  readonly scenario: string;
  readonly question: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly host: { readonly name: string; readonly facts: Readonly<Record<string, string>> };
  readonly verdict: Verdict;
  readonly twins: readonly TwinResult[];
  readonly durationMs: number;
  /** The command that repeats the run. */
  readonly command?: string;
}

export const MAX_FAULTS_KEPT = 200;

/** Exit code of a command whose outcome is `verdict`. */
export const exitCodeOf = (verdict: Verdict): 0 | 1 | 2 => (({ pass: 0, fail: 1, unknown: 2 }) as const)[verdict];

/** A twin passes iff every assertion holds; it is unknown if one is unknown and none is false. */
export function judgeTwin(assertions: readonly Pick<AssertionOutcome, 'ok'>[]): Verdict {
  if (assertions.some(({ ok }) => ok === false)) return 'fail';
  return assertions.every(({ ok }) => ok === true) ? 'pass' : 'unknown';
}

/** The worst of its twins; a run in which no twin ran is unknown. */
export function judgeRun(twins: readonly Pick<TwinResult, 'verdict'>[]): Verdict {
  if (twins.some(({ verdict }) => verdict === 'fail')) return 'fail';
  return twins.length > 0 && twins.every(({ verdict }) => verdict === 'pass') ? 'pass' : 'unknown';
}
