// One load or store of a vCPU, as the hardware and Xen carry it out together: VM entry, TLB, EPT walk, and the exits into Xen.
// What Xen does there is ept-exits.ts; here the instruction runs again after it.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { checkLentAccess } from '../lending/revoked-access.ts';
import { counter } from '../shared-memory/counters.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import { accessResult } from './access-result.ts';
import {
  makeSlot,
  ROOT_LEVEL,
  SLOT_MISCONFIG,
  SLOT_R,
  SLOT_SP,
  SLOT_W,
  slotFrame,
  slotLow,
  slotType,
  tableOffset,
} from './entry.ts';
import { AccessOutcome, eptMisconfig, eptViolation } from './ept-exits.ts';
import { isGrant, p2mType } from './types.ts';

export { accessResult } from './access-result.ts';
export { AccessOutcome } from './ept-exits.ts';

const C_HIT = counter('cpu.tlbHit');
const C_MISS = counter('cpu.tlbMiss');
const C_WALK = counter('cpu.walk');
/** What a walk answers that met an entry which no CPU accepts. */
const MISCONFIG = -1;
/**
 * Attempts before an access that keeps faulting is a bug of the model (XSA-246: a lookup must make progress or fail). Many,
 * because another CPU may be between two of its steps for a while (an ioreq server given up, its pages not marked yet): then
 * the hardware faults again and again, too, and nothing that a guest does to itself may end the host.
 */
const MAX_EXITS = 1_000_000;

/**
 * Runs one access of `d` on this pCPU; the calling thread is the pCPU. `store` = null loads. Takes no lock in guest mode.
 */
export function guestAccess(h: Host, d: Domain, g: number, storeTag: number | null, out: AccessOutcome): number {
  // Flush requests go to pCPUs only: another CPU number would keep stale translations.
  h.assert(h.cpu < h.config.pcpus, 'guest accesses run on pCPUs');
  const needed = storeTag === null ? SLOT_R : SLOT_W;
  for (let exits = 0; exits < MAX_EXITS; exits++) {
    h.tlbs.enter(h.cpu, d);
    const leaf = translate(h, d, g, needed);
    if (leaf > 0) {
      carryOut(h, d, g, leaf, storeTag, out);
      h.tlbs.exit(h.cpu);
      return out.result;
    }
    h.tlbs.exit(h.cpu);
    const handled = leaf === MISCONFIG ? eptMisconfig(h, d, g, out) : eptViolation(h, d, g, needed, out);
    if (handled !== accessResult.ok) return handled;
  }
  return h.panic(`d${d.domid} gfn ${g.toString(16)}: EPT violation handled ${MAX_EXITS} times without progress`);
}

/** A leaf slot for the 4K page with the needed right, from the TLB or the tables; 0 = EPT violation, or MISCONFIG. */
function translate(h: Host, d: Domain, g: number, needed: number): number {
  step(stepKind.guestAccess, g);
  const cached = h.tlbs.lookup(h.cpu, d.slot, g);
  if (cached !== 0 && (slotLow(cached) & needed) !== 0) {
    h.counters.add(C_HIT);
    return cached;
  }
  h.counters.add(C_MISS);
  const leaf = walkEpt(h, d, g);
  if (leaf < 0) return leaf;
  if ((slotLow(leaf) & needed) === 0) return 0;
  step(stepKind.tlbFill, g);
  h.tlbs.fill(h.cpu, d.slot, g, leaf);
  return leaf;
}

/** The hardware walk, through the paging-structure cache. Answers the leaf as a 4K slot, 0 if absent, or MISCONFIG. */
function walkEpt(h: Host, d: Domain, g: number): number {
  const { slots } = h.tables;
  h.counters.add(C_WALK);
  const cachedAt = h.tlbs.lookupTable(h.cpu, d.slot, g);
  if (cachedAt >= 0) {
    const { table, generation } = h.tlbs.tableAt(cachedAt);
    step(stepKind.hwWalk, g);
    const live =
      h.tables.generationOf(table as TableIndex) === generation && h.tables.useOf(table as TableIndex) === tableUse.p2m;
    if (live) return accepted(load(slots, table * SLOTS_PER_TABLE + tableOffset(g, 0)));
    // Reachable only if a flush was lost (policy cpu.flush: lost) or a table was freed before its flush.
    h.platform.violation({
      invariant: 'noWalkThroughFreedTable',
      text: `cpu${h.cpu} walks d${d.domid} gfn ${g.toString(16)} through table ${table}, which was freed`,
      evidence: { cpu: h.cpu, domid: d.domid, gfn: g, table },
    });
    h.tlbs.dropTable(cachedAt);
  }
  let level = ROOT_LEVEL;
  let table = d.r.p2mRoot;
  let slot = load(slots, table * SLOTS_PER_TABLE + tableOffset(g, level));
  while (slot !== 0 && level > 0 && (slot & (SLOT_SP | SLOT_MISCONFIG)) === 0) {
    step(stepKind.hwWalk, g);
    level--;
    table = slotFrame(slot);
    slot = load(slots, table * SLOTS_PER_TABLE + tableOffset(g, level));
  }
  if (slot === 0) return 0;
  if (level === 0) h.tlbs.fillTable(h.cpu, d.slot, g, table, h.tables.generationOf(table as TableIndex));
  if ((slot & SLOT_MISCONFIG) !== 0) return MISCONFIG;
  const frame = slotFrame(slot);
  return level === 0 || frame === INVALID_MFN ? slot : makeSlot(frame + (g % 512 ** level), slotLow(slot));
}

const accepted = (leaf: number): number => ((leaf & SLOT_MISCONFIG) === 0 ? leaf : MISCONFIG);

/** The access itself, still in guest mode: a flush waits for it. */
function carryOut(h: Host, d: Domain, g: number, leaf: number, storeTag: number | null, out: AccessOutcome): void {
  const m = slotFrame(leaf) as Mfn;
  const type = slotType(slotLow(leaf));
  out.mfn = m;
  out.tag = 0;
  if (type === p2mType.lent) checkLentAccess(h, d, g, m);
  const reserved = type === p2mType.mmioDirect && h.frames.valid(m) && h.frames.has(m, frameFlag.firmware);
  const isDevice = type === p2mType.mmioDirect && !reserved && (!h.frames.valid(m) || h.frames.ownerOf(m) < 0);
  const isLentDevice = type === p2mType.lent && (!h.frames.valid(m) || h.frames.has(m, frameFlag.notRam));
  if (isDevice || isLentDevice) {
    out.result = accessResult.mmio;
    return;
  }
  out.result = accessResult.ok;
  // A device's reserved memory is RAM that belongs to no domain.
  if (!reserved) checkOwner(h, d, m, type);
  if (out.effect !== null) out.effect(m);
  else if (storeTag === null) out.tag = Atomics.load(h.frames.tag, m);
  else Atomics.store(h.frames.tag, m, storeTag);
}

/** A CPU access that lands in a frame its domain has no claim on: the harm form of a lost flush. */
function checkOwner(h: Host, d: Domain, m: Mfn, type: number): void {
  if (type === p2mType.mapForeign || h.frames.ownerOf(m) === d.domid) return;
  if ((isGrant(type) || type === p2mType.lent) && h.frames.ownerOf(m) >= 0) return;
  const free = !h.frames.has(m, frameFlag.allocated) && h.frames.ownerOf(m) < 0;
  h.platform.violation({
    invariant: free ? 'noCpuAccessToFreedFrame' : 'noCpuAccessToForeignFrame',
    text: `d${d.domid} on cpu${h.cpu} reaches mfn ${m.toString(16)} of d${h.frames.ownerOf(m)}`,
    evidence: { domid: d.domid, mfn: m, owner: h.frames.ownerOf(m) },
  });
}
