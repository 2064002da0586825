// Handles: what a domain has mapped of others' grants. A handle is taken before a mapping is made and given back by whoever
// took its last part away (XSA-218). Flags are changed under the granting domain's grantActive lock.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { type GrantTable, grantWord, TRACK_WORDS } from './grant-state.ts';
import { gntmap } from './status.ts';

const FLAGS = 0;
const REF = 1;
const DOMID = 2;

/** A mapping has at least one of these parts. */
export const PARTS = gntmap.device | gntmap.host;

/** A free handle, or 0: the map-track is full. */
export function takeHandle(h: Host, d: Domain): number {
  const t = h.grants.of(d);
  const { grantMaptrack } = d.locks;
  grantMaptrack.lock();
  let handle = t.head[grantWord.freeHandle] as number;
  if (handle !== 0) t.head[grantWord.freeHandle] = t.track[handle * TRACK_WORDS + REF] as number;
  else if ((t.head[grantWord.nextHandle] as number) < t.maxHandles) {
    handle = t.head[grantWord.nextHandle] as number;
    t.head[grantWord.nextHandle] = handle + 1;
  }
  grantMaptrack.unlock();
  return handle;
}

export function giveHandle(h: Host, d: Domain, handle: number): void {
  const t = h.grants.of(d);
  const { grantMaptrack } = d.locks;
  grantMaptrack.lock();
  Atomics.store(t.track, handle * TRACK_WORDS + FLAGS, 0);
  t.track[handle * TRACK_WORDS + REF] = t.head[grantWord.freeHandle] as number;
  t.head[grantWord.freeHandle] = handle;
  grantMaptrack.unlock();
}

/** The mapping stands: the handle may be used. */
export function fillHandle(t: GrantTable, handle: number, domid: number, ref: number, flags: number): void {
  const at = handle * TRACK_WORDS;
  t.track[at + REF] = ref;
  t.track[at + DOMID] = domid;
  Atomics.store(t.track, at + FLAGS, flags);
}

/** GNTMAP flags of a handle; 0 = nobody's, or not mapped yet. */
export const handleFlags = (t: GrantTable, handle: number): number =>
  handle > 0 && handle < (t.head[grantWord.nextHandle] as number)
    ? Atomics.load(t.track, handle * TRACK_WORDS + FLAGS)
    : 0;
export const handleRef = (t: GrantTable, handle: number): number => t.track[handle * TRACK_WORDS + REF] as number;
export const handleDomid = (t: GrantTable, handle: number): number => t.track[handle * TRACK_WORDS + DOMID] as number;

export function setHandleFlags(t: GrantTable, handle: number, flags: number): void {
  Atomics.store(t.track, handle * TRACK_WORDS + FLAGS, flags);
}

/** The list of handles that were given back, from its head; ends where it repeats itself. */
export function* freeHandles(t: GrantTable): Generator<number> {
  const seen = new Set<number>();
  for (let handle = t.head[grantWord.freeHandle] as number; handle !== 0; handle = handleRef(t, handle)) {
    yield handle;
    if (seen.has(handle)) return;
    seen.add(handle);
  }
}

/** All handles that map something now. */
export function* liveHandles(t: GrantTable, from = 1): Generator<number> {
  const end = t.head[grantWord.nextHandle] as number;
  for (let handle = from; handle < end; handle++) if ((handleFlags(t, handle) & PARTS) !== 0) yield handle;
}
