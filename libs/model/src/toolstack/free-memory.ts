// xl's freemem: when the host has too little for a new domain, dom0 gives it up (autoballoon). Waits for dom0's kernel by
// polling, with xl's two budgets; it never takes memory from other guests.

import { type LogLine, xlSays } from './libxl-log.ts';
import { memoryNodes, setMemoryTarget } from './memory-ops.ts';
import { ERROR_FAIL } from './passthrough-policy.ts';
import { type Failure, failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';

const DOM0 = 0;
const KB_PER_PAGE = 4;
const POLL_MS = 2_000;
const CREDIT_MS = 30_000;
const NO_PROGRESS_MS = 10_000;

/** xl's last word, after libxl's. */
function failed(log: readonly LogLine[] = []): Failure {
  const last = failure(ERROR_FAIL, xlSays('failed to free memory for the domain'));
  return { ...last, log: [...log, ...last.log] };
}

function freeKb({ port }: ToolstackPorts): number | null {
  const { info } = port.call({ op: 'physinfo' });
  return info ? (info.freePages + info.scrubPages) * KB_PER_PAGE : null;
}

function dom0Kb({ port }: ToolstackPorts): number | null {
  const { info } = port.call({ op: 'getdomaininfo', domid: DOM0 });
  return info ? info.totPages * KB_PER_PAGE : null;
}

/** As libxl_wait_for_memory_target: the elapsed time, or null if dom0 does not get there. */
function* waitForDom0(ports: ToolstackPorts): Operation<number | null> {
  let budget = NO_PROGRESS_MS;
  let elapsed = 0;
  let last = dom0Kb(ports);
  for (;;) {
    const target = memoryNodes(ports, DOM0)?.targetKb ?? null;
    if (last === null || target === null) return null;
    if (last <= target) return elapsed;
    yield { do: 'sleep', ms: POLL_MS };
    elapsed += POLL_MS;
    const now = dom0Kb(ports);
    if (now === null || now > last) return null;
    if (now === last) budget -= POLL_MS;
    if (budget <= 0) return null;
    last = now;
  }
}

export function* freeMemory(ports: ToolstackPorts, needKb: number): Operation<OpResult> {
  let credit = CREDIT_MS;
  for (;;) {
    const free = freeKb(ports);
    if (free === null) return failed();
    if (free >= needKb) return { ok: true, log: [] };
    if (credit <= 0) return failed();
    const set = setMemoryTarget(ports, DOM0, { kb: free - needKb, relative: true, enforce: false });
    if (!set.ok) return failed(set.log);
    const elapsed = yield* waitForDom0(ports);
    if (elapsed === null) return failed();
    // Even a dom0 that is there at once costs a poll: memory may still be on its way back to the heap.
    if (elapsed === 0) yield { do: 'sleep', ms: POLL_MS };
    credit -= Math.max(elapsed, POLL_MS);
  }
}
