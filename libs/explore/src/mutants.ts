// Which steps of a schedule can be left out: stores and flushes, and locks that somebody else takes too while the two have no other
// lock in common. Whether one has an effect is found by leaving it out.
import { RESUMED } from './control.ts';
import { kindNumber } from './paper/kinds.ts';
import { isLockStep } from './step-kinds.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

/** What is left out beside locks: stores and flushes. Not what only reads, waits or gives a lock back. */
const mutable: ReadonlySet<number> = new Set(
  (
    [
      'write',
      'count',
      'p2mWrite',
      'm2pWrite',
      'ptWrite',
      'ptFree',
      'ioWrite',
      'ctxWrite',
      'cpuFlush',
      'iotlbFlush',
      'frameFree',
      'refTake',
      'refDrop',
      'scrub',
      'cacheAdd',
      'deviceAttach',
      'hwFlush',
      'deviceTlbFlush',
      'shadowWrite',
      'gpuTlbFlush',
      'cmpxchg',
      'p2mClear',
      'ioClear',
      'ptWriteField',
      'ctxWriteField',
      'ctxSwap',
      'flushQueue',
      'devFlush',
      'hwCommand',
      'cacheWriteback',
      'typeRef',
      'free',
    ] as const
  ).map(kindNumber),
);

/** Effective only where they would have dropped something. */
const flushes: ReadonlySet<number> = new Set(
  (['cpuFlush', 'iotlbFlush', 'hwFlush', 'deviceTlbFlush', 'devFlush'] as const).map(kindNumber),
);

export interface Mutant {
  readonly actor: string;
  /** Which of the actor's own steps. */
  readonly step: number;
  readonly what: string;
}

export interface Candidate {
  readonly mutant: Mutant;
  readonly flush: boolean;
  readonly playing: { readonly mutant: { readonly actor: number; readonly step: number }; readonly lock: boolean };
}

const LOCK = kindNumber('lock');
const TRY_LOCK = kindNumber('tryLock');
const UNLOCK = kindNumber('unlock');

/** Of the schedule without preemptions. */
export function candidatesOf(troupe: Troupe): Candidate[] {
  troupe.play();
  const trace = new Trace(troupe.control, troupe.hardware);
  const holds = heldBefore(trace, troupe.names.length);
  const own = troupe.names.map(() => 0);
  const found: Candidate[] = [];
  for (let i = 0; i < trace.length; i++) {
    const [actor, kind, where] = [trace.actor(i), trace.kind(i), trace.where(i)];
    if (kind === RESUMED) continue;
    const step = own[actor] as number;
    own[actor] = step + 1;
    const lock = kind === LOCK;
    if (lock ? !isWanted(trace, holds, i) : !mutable.has(kind)) continue;
    const mutant = { actor: troupe.names[actor] ?? '?', step, what: troupe.describe(kind, where) };
    found.push({ mutant, flush: flushes.has(kind), playing: { mutant: { actor, step }, lock } });
  }
  return found;
}

/** Locks that whoever takes each event holds before it. */
function heldBefore(trace: Trace, actors: number): ReadonlySet<number>[] {
  const now = Array.from({ length: actors }, () => new Map<number, number>());
  const all: ReadonlySet<number>[] = [];
  for (let i = 0; i < trace.length; i++) {
    const held = now[trace.actor(i)] as Map<number, number>;
    all.push(new Set(held.keys()));
    const [kind, where] = [trace.kind(i), trace.where(i)];
    const depth = held.get(where) ?? 0;
    if (kind === LOCK || kind === TRY_LOCK) held.set(where, depth + 1);
    else if (kind === UNLOCK && depth > 1) held.set(where, depth - 1);
    else if (kind === UNLOCK) held.delete(where);
  }
  return all;
}

/** Events of one hold of a lock that are accesses to something. */
function accessesUnder(trace: Trace, from: number): number {
  const [actor, lock] = [trace.actor(from), trace.where(from)];
  let [depth, accesses] = [0, 0];
  for (let i = from; i < trace.length; i++) {
    if (trace.actor(i) !== actor) continue;
    const kind = trace.kind(i);
    if (trace.where(i) === lock && isLockStep(kind)) {
      depth += kind === UNLOCK ? -1 : 1;
      if (depth === 0) break;
    } else if (!isLockStep(kind) && kind !== RESUMED) accesses++;
  }
  return accesses;
}

/**
 * Does another actor take the lock, while it has none that whoever takes event `at` has too, and could one of the two be seen half
 * done? Not of a lock that is held already.
 */
function isWanted(trace: Trace, holds: readonly ReadonlySet<number>[], at: number): boolean {
  const mine = holds[at] as ReadonlySet<number>;
  if (mine.has(trace.where(at))) return false;
  const own = accessesUnder(trace, at);
  for (let i = 0; i < trace.length; i++) {
    if (trace.actor(i) === trace.actor(at) || trace.where(i) !== trace.where(at) || trace.kind(i) !== LOCK) continue;
    if ([...(holds[i] as ReadonlySet<number>)].some((lock) => mine.has(lock))) continue;
    const theirs = accessesUnder(trace, i);
    if (own > 0 && theirs > 0 && own + theirs > 2) return true;
  }
  return false;
}
