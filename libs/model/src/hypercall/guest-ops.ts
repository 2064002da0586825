// What a vCPU does in guest mode, batched: loads and stores through TLB and p2m, one 32-bit tag a frame. A slice of a batch
// runs in guest mode; between slices the vCPU is out, so pausing its domain never waits longer than a slice.
import { enterGuest, isHeld, leaveGuest } from '../domain/pause.ts';
import type { Host } from '../host.ts';
import { eventsSeen } from '../lending/window.ts';
import { AccessOutcome, accessResult, guestAccess } from '../p2m/guest-access.ts';
import { type CallOf, type Extents, extentAt, extentCount } from './calls.ts';
import { extentsOk, isFrame, isTag } from './checks.ts';
import { blocked, type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Accesses between two looks at the preemption word and the pause count. */
const LOOK_EVERY = 64;
/** `load` answers with data: at most this many frames a call. */
const MAX_LOADS = 65_536;

/** Figures a batch keeps over its slices, in ContinuationState.values. */
const FAULTED = 0;
const BAD = 1;
const FIRST_BAD = 2;
const FOUND = 3;
/** Of the faulted: those that a device's window answered. */
const MMIO = 4;
const FIGURES = 5;

/**
 * Accesses every frame; `storeTag` null loads. `seen` is told each result (ok or not). The last slice's outcome is `finish`;
 * -EFAULT when the domain died of it.
 */
function run(
  h: Host,
  caller: Caller,
  frames: Extents,
  storeTag: number | null,
  state: ContinuationState | null,
  figures: number[],
  seen: (frame: number, out: AccessOutcome, figures: number[]) => void,
  finish: (figures: number[]) => Outcome,
): Outcome {
  const d = caller.domain;
  if (!d.isTranslated) return rc(-errno.EOPNOTSUPP);
  if (!extentsOk(frames)) return rc(-errno.EFAULT);
  const count = extentCount(frames);
  const start = state?.at ?? 0;
  if (!enterGuest(d)) return blocked({ on: 'unpause', domid: d.domid }, { at: start, values: figures });
  const seenEvents = eventsSeen(d);
  const out = new AccessOutcome();
  try {
    for (let i = start; i < count; i++) {
      if (i !== start && i % LOOK_EVERY === 0 && (caller.preempt() || isHeld(d)))
        return goOn({ at: i, values: figures });
      const frame = extentAt(frames, i, 0);
      if (!isFrame(frame)) {
        out.result = accessResult.emulated;
        out.tag = 0;
      } else guestAccess(h, d, frame, storeTag, out);
      if (out.result === accessResult.crashed) return rc(-errno.EFAULT);
      if (out.result === accessResult.lendFault) {
        return blocked({ on: 'lend', domid: d.domid, seen: seenEvents }, { at: i, values: figures });
      }
      if (out.result !== accessResult.ok) figures[FAULTED] = (figures[FAULTED] ?? 0) + 1;
      if (out.result === accessResult.mmio) figures[MMIO] = (figures[MMIO] ?? 0) + 1;
      seen(frame, out, figures);
    }
  } finally {
    leaveGuest(d);
  }
  return finish(figures);
}

const figuresOf = (state: ContinuationState | null): number[] => [...(state?.values ?? [0, 0, -1, 0, 0])];
const ignore = (): void => {};

const counted =
  (frames: Extents) =>
  (figures: number[]): Outcome => {
    const faulted = figures[FAULTED] ?? 0;
    const mmio = figures[MMIO] ?? 0;
    return done({ rc: 0, done: extentCount(frames) - faulted, faulted, ...(mmio > 0 ? { mmio } : {}) });
  };

export const touch = (h: Host, caller: Caller, call: CallOf<'touch'>, state: ContinuationState | null): Outcome =>
  run(h, caller, call.frames, null, state, figuresOf(state), ignore, counted(call.frames));

export function store(h: Host, caller: Caller, call: CallOf<'store'>, state: ContinuationState | null): Outcome {
  if (!isTag(call.tag)) return rc(-errno.EINVAL);
  return run(h, caller, call.frames, call.tag, state, figuresOf(state), ignore, counted(call.frames));
}

/** Contents of each frame; where nothing is mapped a load gives all ones (-1). */
export function load(h: Host, caller: Caller, call: CallOf<'load'>, state: ContinuationState | null): Outcome {
  if (extentsOk(call.frames) && extentCount(call.frames) > MAX_LOADS) return rc(-errno.E2BIG);
  const collect = (_frame: number, out: AccessOutcome, figures: number[]): void => {
    figures.push(out.result === accessResult.ok ? out.tag : -1);
  };
  return run(h, caller, call.frames, null, state, figuresOf(state), collect, (figures) =>
    done({ rc: 0, tags: figures.slice(FIGURES), faulted: figures[FAULTED] ?? 0 }),
  );
}

/** Compares the contents with `tag`: how many differ, and the first that does. */
export function verify(h: Host, caller: Caller, call: CallOf<'verify'>, state: ContinuationState | null): Outcome {
  if (!isTag(call.tag)) return rc(-errno.EINVAL);
  const compare = (frame: number, out: AccessOutcome, figures: number[]): void => {
    if (out.result !== accessResult.ok || out.tag === (call.tag | 0)) return;
    if (figures[BAD] === 0) {
      figures[FIRST_BAD] = frame;
      figures[FOUND] = out.tag;
    }
    figures[BAD] = (figures[BAD] ?? 0) + 1;
  };
  return run(h, caller, call.frames, null, state, figuresOf(state), compare, (figures) =>
    done({
      rc: 0,
      bad: figures[BAD] ?? 0,
      firstBad: figures[FIRST_BAD] ?? -1,
      found: figures[FOUND] ?? 0,
      faulted: figures[FAULTED] ?? 0,
    }),
  );
}
