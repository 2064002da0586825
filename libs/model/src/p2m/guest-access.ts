// One load or store of a vCPU, as the hardware and Xen carry it out together: VM entry, TLB, EPT walk, and on an EPT
// violation the exit into Xen, which populates a PoD entry and lets the instruction run again (hvm_hap_nested_page_fault).
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import { makeSlot, ROOT_LEVEL, SLOT_R, SLOT_SP, SLOT_W, slotFrame, slotLow, slotType, tableOffset } from './entry.ts';
import { getGfn, P2M_ALLOC, putGfn } from './get-entry.ts';
import { Leaf } from './peek-entry.ts';
import { discardsWrites, p2mType } from './types.ts';

const C_HIT = counter('cpu.tlbHit');
const C_MISS = counter('cpu.tlbMiss');
const C_WALK = counter('cpu.walk');
const C_VIOLATION = counter('cpu.eptViolation');

/** What an access came to. `emulated`: nothing is mapped there, the device model would answer (reads give all ones). */
export const accessResult = { ok: 0, emulated: 1, mmio: 2, discarded: 3, crashed: 4 } as const;

export class AccessOutcome {
  result: number = accessResult.ok;
  /** Contents tag that a load found. */
  tag = 0;
  mfn: Mfn = INVALID_MFN;
}

/** Attempts before an access that keeps faulting is a bug of the model (XSA-246: a lookup must make progress or fail). */
const MAX_EXITS = 8;

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
    if (leaf !== 0) {
      carryOut(h, d, leaf, storeTag, out);
      h.tlbs.exit(h.cpu);
      return out.result;
    }
    h.tlbs.exit(h.cpu);
    h.counters.add(C_VIOLATION);
    const handled = eptViolation(h, d, g, needed, out);
    if (handled !== accessResult.ok) return handled;
  }
  return h.panic(`d${d.domid} gfn ${g.toString(16)}: EPT violation handled ${MAX_EXITS} times without progress`);
}

/** A leaf slot for the 4K page with the needed right, from the TLB or the tables; 0 = EPT violation. */
function translate(h: Host, d: Domain, g: number, needed: number): number {
  step(stepKind.guestAccess, g);
  const cached = h.tlbs.lookup(h.cpu, d.slot, g);
  if (cached !== 0 && (slotLow(cached) & needed) !== 0) {
    h.counters.add(C_HIT);
    return cached;
  }
  h.counters.add(C_MISS);
  const leaf = walkEpt(h, d, g);
  if ((slotLow(leaf) & needed) === 0) return 0;
  step(stepKind.tlbFill, g);
  h.tlbs.fill(h.cpu, d.slot, g, leaf);
  return leaf;
}

/** The hardware walk, through the paging-structure cache. Answers the leaf as a 4K slot, 0 if absent. */
function walkEpt(h: Host, d: Domain, g: number): number {
  const { slots } = h.tables;
  h.counters.add(C_WALK);
  const cachedAt = h.tlbs.lookupTable(h.cpu, d.slot, g);
  if (cachedAt >= 0) {
    const { table, generation } = h.tlbs.tableAt(cachedAt);
    step(stepKind.hwWalk, g);
    const live =
      h.tables.generationOf(table as TableIndex) === generation && h.tables.useOf(table as TableIndex) === tableUse.p2m;
    if (live) return load(slots, table * SLOTS_PER_TABLE + tableOffset(g, 0));
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
  while (slot !== 0 && level > 0 && (slotLow(slot) & SLOT_SP) === 0) {
    step(stepKind.hwWalk, g);
    level--;
    table = slotFrame(slot);
    slot = load(slots, table * SLOTS_PER_TABLE + tableOffset(g, level));
  }
  if (slot === 0) return 0;
  if (level === 0) {
    h.tlbs.fillTable(h.cpu, d.slot, g, table, h.tables.generationOf(table as TableIndex));
    return slot;
  }
  const frame = slotFrame(slot);
  return frame === INVALID_MFN ? slot : makeSlot(frame + (g % 512 ** level), slotLow(slot));
}

/** The access itself, still in guest mode: a flush waits for it. */
function carryOut(h: Host, d: Domain, leaf: number, storeTag: number | null, out: AccessOutcome): void {
  const m = slotFrame(leaf) as Mfn;
  const type = slotType(slotLow(leaf));
  out.mfn = m;
  out.tag = 0;
  if (type === p2mType.mmioDirect && (!h.frames.valid(m) || h.frames.ownerOf(m) < 0)) {
    out.result = accessResult.mmio;
    return;
  }
  out.result = accessResult.ok;
  checkOwner(h, d, m, type);
  if (storeTag === null) out.tag = Atomics.load(h.frames.tag, m);
  else Atomics.store(h.frames.tag, m, storeTag);
}

/** A CPU access that lands in a frame its domain has no claim on: the harm form of a lost flush. */
function checkOwner(h: Host, d: Domain, m: Mfn, type: number): void {
  if (type === p2mType.mapForeign || h.frames.ownerOf(m) === d.domid) return;
  const free = !h.frames.has(m, frameFlag.allocated) && h.frames.ownerOf(m) < 0;
  h.platform.violation({
    invariant: free ? 'noCpuAccessToFreedFrame' : 'noCpuAccessToForeignFrame',
    text: `d${d.domid} on cpu${h.cpu} reaches mfn ${m.toString(16)} of d${h.frames.ownerOf(m)}`,
    evidence: { domid: d.domid, mfn: m, owner: h.frames.ownerOf(m) },
  });
}

/** In Xen: populate, or say what the access is. `ok` = run the instruction again. */
function eptViolation(h: Host, d: Domain, g: number, needed: number, out: AccessOutcome): number {
  const leaf = new Leaf();
  getGfn(h, d, g, P2M_ALLOC, leaf);
  putGfn(h, d);
  out.mfn = leaf.mfn;
  out.tag = 0;
  out.result = violationResult(d, leaf, needed);
  return out.result;
}

function violationResult(d: Domain, leaf: Leaf, needed: number): number {
  if (d.crashed || d.dying) return accessResult.crashed;
  if (leaf.mfn === INVALID_MFN) return accessResult.emulated;
  if (needed === SLOT_W && discardsWrites(leaf.type)) return accessResult.discarded;
  if (leaf.type === p2mType.ramBroken || leaf.type === p2mType.mmioDm) return accessResult.emulated;
  return accessResult.ok;
}
