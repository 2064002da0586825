// squeezed at work: a snapshot a round, the policy's answers applied in the order that never overcommits, a round a second; and
// its requests: balance, reserve memory, swap it between two guests. Its time is the toolstack's own plus what it slept.
import { xlSays } from './libxl-log.ts';
import { memoryNodes, TARGET } from './memory-ops.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { type Failure, failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';
import {
  atTarget,
  proportionalTargets,
  type SqueezedHost,
  type SqueezeEnd,
  type SqueezeRequest,
  Squeezer,
} from './squeezed.ts';
import { addReservation, type Reservation } from './squeezed-reservations.ts';
import { DYNAMIC_MAX, DYNAMIC_MIN, EXTRA_KB, type Snapshot, takeSnapshot } from './squeezed-snapshot.ts';

const ROUND_MS = 1_000;
/** Free memory that a balancing does not bother to give away. */
const TOLERANCE_KB = 512;

/** What a request needs to know beside the host. */
export interface SqueezedSettings {
  /** Left free always: Xen's low-memory pool and 8 MiB. */
  readonly keepFreeKb: number;
  /** The toolstack's own time as the request begins. */
  readonly nowMs: number;
}

/** Raising: limit first, then target. Lowering: target first, then limit. A guest without a driver is told nothing. */
function apply(ports: ToolstackPorts, snapshot: Snapshot, step: ReturnType<Squeezer['step']>): void {
  const { port, xenstore } = ports;
  for (const { domid, kb } of step.limits) {
    const domain = snapshot.domains.find((d) => d.domid === domid);
    if (!domain) continue;
    const target = step.targets.find((t) => t.domid === domid);
    const tell = (): void => {
      if (target && domain.canBalloon) xenstore.write(domid, TARGET, String(target.kb));
    };
    if (target && target.kb < domain.targetKb) tell();
    port.call({ op: 'max_mem', domid, maxKb: kb + EXTRA_KB + domain.offsetKb });
    if (target && target.kb >= domain.targetKb) tell();
  }
}

const unreadable = (): Failure => failure(ERROR_FAIL, xlSays('squeezed: cannot read the state of the host'));

function failed(end: SqueezeEnd, neededKb: number, freeKb: number): Failure {
  const text =
    end.end === 'refused'
      ? `domains refused to cooperate: ${end.domids.join(', ')}`
      : `cannot free this much memory: ${neededKb} KiB needed, ${freeKb} KiB free`;
  return failure(ERROR_FAIL, xlSays(`squeezed: ${text}`));
}

/** Runs one request to its end; `host` is what it last saw. */
function* squeeze(
  ports: ToolstackPorts,
  request: SqueezeRequest,
  { keepFreeKb, nowMs }: SqueezedSettings,
): Operation<OpResult<{ readonly host: SqueezedHost }>> {
  const squeezer = new Squeezer(request);
  for (let now = nowMs; ; now += ROUND_MS) {
    const snapshot = yield* takeSnapshot(ports, now);
    if (!snapshot) return unreadable();
    const step = squeezer.step(snapshot, now);
    apply(ports, snapshot, step);
    if (step.end?.end === 'done') return { ok: true, log: [], host: snapshot };
    // What is always kept free is nobody's.
    if (step.end) return failed(step.end, request.wantedFreeKb - keepFreeKb, snapshot.freeKb - keepFreeKb);
    yield { do: 'sleep', ms: ROUND_MS };
  }
}

function balanceRequest(keepFreeKb: number): SqueezeRequest {
  // Too little free is no reason to go on: nobody asked for it.
  return { wantedFreeKb: keepFreeKb, enough: (freeKb) => freeKb - keepFreeKb < TOLERANCE_KB, shortcut: false };
}

/** Gives every guest the same fraction of its range, with so much left free, as far as it goes: who cannot follow stays. */
export function* balance(ports: ToolstackPorts, settings: SqueezedSettings): Operation<OpResult> {
  yield* squeeze(ports, balanceRequest(settings.keepFreeKb), settings);
  return { ok: true, log: [] };
}

/** What squeezed does every ten seconds: balances if a look says that some target would change. */
export function* autoBalance(
  ports: ToolstackPorts,
  settings: SqueezedSettings,
): Operation<OpResult<{ readonly balanced: boolean }>> {
  const snapshot = yield* takeSnapshot(ports, settings.nowMs);
  if (!snapshot) return unreadable();
  const { targets } = new Squeezer(balanceRequest(settings.keepFreeKb)).step(snapshot, settings.nowMs);
  if (targets.length === 0) return { ok: true, log: [], balanced: false };
  yield* balance(ports, settings);
  return { ok: true, log: [], balanced: true };
}

/** As `reserve_memory_range`: between `minKb` and `maxKb`, as much as the policy would give such a domain. */
export function* reserveMemoryRange(
  ports: ToolstackPorts,
  reservation: Reservation,
  { minKb, maxKb }: { readonly minKb: number; readonly maxKb: number },
  settings: SqueezedSettings,
): Operation<OpResult<{ readonly kb: number }>> {
  const { keepFreeKb, nowMs } = settings;
  if (minKb < 0 || maxKb < 0) {
    return failure(ERROR_INVAL, xlSays(`squeezed: invalid memory value: ${Math.min(minKb, maxKb)}`));
  }
  const before = yield* takeSnapshot(ports, nowMs);
  if (!before) return unreadable();
  const newcomer = {
    domid: -1,
    canBalloon: true,
    dynamicMinKb: minKb,
    dynamicMaxKb: maxKb,
    targetKb: minKb,
    actualKb: 0,
  };
  const withNewcomer = { ...before, domains: [newcomer, ...before.domains] };
  const shares = proportionalTargets(withNewcomer, keepFreeKb, ({ canBalloon }) => canBalloon);
  const idealKb = shares.find(({ domid }) => domid === newcomer.domid)?.kb ?? minKb;
  const enough = (freeKb: number): boolean => freeKb >= minKb + keepFreeKb;
  const squeezed = yield* squeeze(ports, { wantedFreeKb: idealKb + keepFreeKb, enough, shortcut: true }, settings);
  if (!squeezed.ok) return squeezed;
  const kb = Math.max(minKb, Math.min(squeezed.host.freeKb - keepFreeKb, maxKb));
  addReservation(ports, reservation, kb);
  return { ok: true, log: [], kb };
}

/** Sizes of a domain are fixed by giving it a range of nothing. */
function pin(ports: ToolstackPorts, domid: number, kb: number): void {
  ports.xenstore.write(domid, DYNAMIC_MIN, String(kb));
  ports.xenstore.write(domid, DYNAMIC_MAX, String(kb));
}

/**
 * Moves `kb` from one guest to another: new ranges for both, then squeezed balances, freeing first. Ends when both are at
 * their targets, or one has stopped moving.
 */
export function* swapMemory(
  ports: ToolstackPorts,
  shrink: number,
  grow: number,
  kb: number,
  settings: SqueezedSettings,
): Operation<OpResult> {
  const from = memoryNodes(ports, shrink);
  const to = memoryNodes(ports, grow);
  if (!from || !to) return failure(ERROR_INVAL, xlSays(`domain ${from ? grow : shrink} has no memory target`));
  if (from.targetKb - kb <= 0) return failure(ERROR_INVAL, xlSays(`domain ${shrink} has less than ${kb} KiB`));
  if (to.targetKb + kb > to.staticMaxKb) {
    return failure(ERROR_INVAL, xlSays('memory_dynamic_max must be less than or equal to memory_static_max'));
  }
  pin(ports, shrink, from.targetKb - kb);
  pin(ports, grow, to.targetKb + kb);
  const wantedFreeKb = settings.keepFreeKb;
  const result = yield* squeeze(ports, { wantedFreeKb, enough: () => true, shortcut: false }, settings);
  if (!result.ok) return result;
  const wanted = new Map([
    [shrink, from.targetKb - kb],
    [grow, to.targetKb + kb],
  ]);
  const arrived = result.host.domains.filter((d) => wanted.get(d.domid) === d.targetKb && atTarget(d));
  const missing = [shrink, grow].filter((domid) => !arrived.some((d) => d.domid === domid));
  if (missing.length === 0) return { ok: true, log: [] };
  return failed({ end: 'refused', domids: missing }, 0, 0);
}
