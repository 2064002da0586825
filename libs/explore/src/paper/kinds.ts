// Step kinds that only step programs take: what lies below the model's own steps, or what the model announces under a
// coarser name. Numbers beside the model's and the explorer's own.
import { type StepKindName, stepKind } from '#model/shared-memory/step';

const FIRST = 64;

const names = [
  'cmpxchg',
  'barrier',
  'compute',
  'branch',
  'return',
  'alloc',
  'free',
  'p2mClear',
  'm2pRead',
  'ioClear',
  'ptWriteField',
  'ptRead',
  'ctxWriteField',
  'ctxSwap',
  'flushQueue',
  'flushWait',
  'devFlush',
  'hwCommand',
  'cacheWriteback',
  'typeRef',
  'xenAccess',
  'hwPointer',
  'hwAccess',
  'program',
  'devReset',
  'notifier',
  'pauseReq',
] as const;

type PaperKindName = (typeof names)[number];

/** Any step of the advisories' vocabulary. */
export type AnyKindName = StepKindName | PaperKindName;

const numbers = new Map<string, number>([
  ...Object.entries(stepKind),
  ...names.map((name, i) => [name, FIRST + i] as const),
]);

/** Of a name that the type admits there always is one. */
export const kindNumber = (name: AnyKindName): number => numbers.get(name) as number;

/** The name of one of these kinds; undefined: it is none. */
export const paperKindName = (kind: number): PaperKindName | undefined => names[kind - FIRST];
