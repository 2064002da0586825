// squeezed at work: snapshots from hypercalls and xenstore, the policy's answers applied in the order that never overcommits,
// a round a second. And what starts it here: memory swapped between two guests. Its time is the time it slept.

import { memoryNodes, readKb, TARGET } from './memory-ops.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';
import {
  atTarget,
  CooperationMonitor,
  type SqueezedDomain,
  type SqueezedHost,
  type SqueezeRequest,
  Squeezer,
} from './squeezed.ts';

const ROUND_MS = 1_000;
const SCRUB_WAIT_MS = 250;
const KB_PER_PAGE = 4;
const SCRUB_STEP_PAGES = 1024;
/** Added to every limit: xapi's internal overhead of an HVM domain. */
const EXTRA_KB = 1024;
const LIST_MAX = 1024;
/** The low-memory pool (64 MiB today) and 8 MiB on top. */
export const KEEP_FREE_KB = (64 + 8) * 1024;

const DYNAMIC_MIN = 'memory/dynamic-min';
const DYNAMIC_MAX = 'memory/dynamic-max';
const OFFSET = 'memory/memory-offset';
const FEATURE_BALLOON = 'control/feature-balloon';
const UNCOOPERATIVE = 'memory/uncooperative';
const INITIAL_RESERVATION = 'memory/initial-reservation';

interface Sighted extends SqueezedDomain {
  readonly offsetKb: number;
}

interface Snapshot extends SqueezedHost {
  readonly domains: readonly Sighted[];
}

/** null: its nodes vanished while we looked; it is skipped. */
function sight(ports: ToolstackPorts, domid: number, totKb: number, maxKb: number): Sighted | null {
  const { xenstore } = ports;
  if (xenstore.read(domid, FEATURE_BALLOON) === null) {
    // Not booted as far as anyone can tell: it has what it has, and gets no more.
    const kb = maxKb - EXTRA_KB;
    const fixed = { dynamicMinKb: kb, dynamicMaxKb: kb, targetKb: kb, actualKb: kb };
    return { domid, canBalloon: false, ...fixed, offsetKb: 0 };
  }
  const targetKb = readKb(ports, domid, TARGET);
  if (targetKb === null) return null;
  let offsetKb = readKb(ports, domid, OFFSET);
  if (offsetKb === null) {
    offsetKb = totKb - targetKb;
    xenstore.write(domid, OFFSET, String(offsetKb));
  }
  return {
    domid,
    canBalloon: true,
    dynamicMinKb: readKb(ports, domid, DYNAMIC_MIN) ?? targetKb,
    dynamicMaxKb: readKb(ports, domid, DYNAMIC_MAX) ?? targetKb,
    targetKb,
    actualKb: totKb - offsetKb,
    offsetKb,
  };
}

/** Waits until nothing is being scrubbed. dom0 is not managed. */
function* takeSnapshot(ports: ToolstackPorts): Operation<Snapshot | null> {
  const { port } = ports;
  let host = port.call({ op: 'physinfo' }).info;
  while (host && host.scrubPages >= SCRUB_STEP_PAGES) {
    yield { do: 'sleep', ms: SCRUB_WAIT_MS };
    host = port.call({ op: 'physinfo' }).info;
  }
  const { infos } = port.call({ op: 'getdomaininfolist', first: 1, max: LIST_MAX });
  if (!host || !infos) return null;
  let freeKb = (host.freePages + host.scrubPages) * KB_PER_PAGE;
  const domains: Sighted[] = [];
  for (const { domid, totPages, maxPages } of infos) {
    const domain = sight(ports, domid, totPages * KB_PER_PAGE, maxPages * KB_PER_PAGE);
    if (!domain) continue;
    domains.push(domain);
    const reserved = domain.canBalloon ? null : readKb(ports, domid, INITIAL_RESERVATION);
    freeKb -= Math.max(0, (reserved ?? 0) - totPages * KB_PER_PAGE);
  }
  return { freeKb, domains };
}

/** Raising: limit first, then target. Lowering: target first, then limit. */
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

/** Runs one request to its end; `host` is what it last saw. */
export function* squeeze(
  ports: ToolstackPorts,
  request: SqueezeRequest,
): Operation<OpResult<{ readonly host: SqueezedHost }>> {
  const squeezer = new Squeezer(request);
  const cooperation = new CooperationMonitor();
  let marked: readonly number[] = [];
  for (let now = 0; ; now += ROUND_MS) {
    const snapshot = yield* takeSnapshot(ports);
    if (!snapshot) return failure(ERROR_FAIL, 'cannot read the state of the host');
    const step = squeezer.step(snapshot, now);
    const uncooperative = cooperation.update(snapshot, now);
    for (const domid of marked) if (!uncooperative.includes(domid)) ports.xenstore.remove(domid, UNCOOPERATIVE);
    for (const domid of uncooperative) ports.xenstore.write(domid, UNCOOPERATIVE, '');
    marked = uncooperative;
    apply(ports, snapshot, step);
    if (step.end?.end === 'done') return { ok: true, log: [], host: snapshot };
    if (step.end?.end === 'refused') {
      return failure(ERROR_FAIL, `domains refused to cooperate: ${step.end.domids.join(', ')}`);
    }
    if (step.end) return failure(ERROR_FAIL, `cannot free this much memory: ${request.wantedFreeKb} KiB`);
    yield { do: 'sleep', ms: ROUND_MS };
  }
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
export function* swapMemory(ports: ToolstackPorts, shrink: number, grow: number, kb: number): Operation<OpResult> {
  const from = memoryNodes(ports, shrink);
  const to = memoryNodes(ports, grow);
  if (!from || !to) return failure(ERROR_INVAL, `domain ${from ? grow : shrink} has no memory target`);
  if (from.targetKb - kb <= 0) return failure(ERROR_INVAL, `domain ${shrink} has less than ${kb} KiB`);
  if (to.targetKb + kb > to.staticMaxKb) {
    return failure(ERROR_INVAL, 'memory_dynamic_max must be less than or equal to memory_static_max');
  }
  pin(ports, shrink, from.targetKb - kb);
  pin(ports, grow, to.targetKb + kb);
  const result = yield* squeeze(ports, { wantedFreeKb: KEEP_FREE_KB, enough: () => true, shortcut: false });
  if (!result.ok) return result;
  const wanted = new Map([
    [shrink, from.targetKb - kb],
    [grow, to.targetKb + kb],
  ]);
  const arrived = result.host.domains.filter((d) => wanted.get(d.domid) === d.targetKb && atTarget(d));
  const missing = [shrink, grow].filter((domid) => !arrived.some((d) => d.domid === domid));
  if (missing.length === 0) return { ok: true, log: [] };
  return failure(ERROR_FAIL, `domains refused to cooperate: ${missing.join(', ')}`);
}
