// What Xen does when a vCPU's access cannot go on by itself (ept_handle_misconfig, hvm_hap_nested_page_fault): settles a pending
// change, populates a PoD entry, logs a write, emulates, or ends the domain. The caller runs the instruction again after `ok`.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { faultOnLent } from '../lending/lend-fault.ts';
import { counter } from '../shared-memory/counters.ts';
import { accessResult } from './access-result.ts';
import { SLOT_R, SLOT_W, SLOT_X } from './entry.ts';
import { getGfn, P2M_ALLOC, P2M_LENT, putGfn } from './get-entry.ts';
import { dirtyFault } from './log-dirty.ts';
import { isMmioRo } from './memory-type.ts';
import { resolveMisconfig } from './misconfig.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf } from './peek-entry.ts';
import { cpuRights, discardsWrites, isLent, isRam, p2mType } from './types.ts';

const C_VIOLATION = counter('cpu.eptViolation');

export class AccessOutcome {
  result: number = accessResult.ok;
  /** Contents tag that a load found. */
  tag = 0;
  mfn: Mfn = INVALID_MFN;
  /** p2m type that Xen found when the access needed it. */
  type: number = p2mType.invalid;
  /** What the store does to the page instead of setting its tag, in guest mode: one entry of a table, say. */
  effect: ((m: Mfn) => void) | null = null;
}

/** VM exit 49. */
const EXIT_REASON_EPT_MISCONFIG = 49;

/**
 * The walk met an entry that says "ask Xen". That nothing is pending any more is fine: another vCPU was first (Xen remembers
 * that per vCPU and else calls it a bug). Without table memory the domain ends.
 */
export function eptMisconfig(h: Host, d: Domain, g: number, out: AccessOutcome): number {
  p2mLock(h, d);
  const rc = d.dying ? 0 : resolveMisconfig(h, d, g);
  p2mUnlock(h, d);
  if (rc < 0) domainCrash(h, d, `d${d.domid}v${h.currentVcpu} Unexpected vmexit: reason ${EXIT_REASON_EPT_MISCONFIG}`);
  out.tag = 0;
  out.result = d.crashed || d.dying ? accessResult.crashed : accessResult.ok;
  return out.result;
}

/** The access needs a right that the entry does not give, or nothing is there. */
export function eptViolation(h: Host, d: Domain, g: number, needed: number, out: AccessOutcome): number {
  const leaf = new Leaf();
  h.counters.add(C_VIOLATION);
  getGfn(h, d, g, P2M_ALLOC | P2M_LENT, leaf);
  try {
    out.mfn = leaf.mfn;
    out.type = leaf.type;
    out.tag = 0;
    out.result = violationResult(h, d, g, leaf, needed);
  } finally {
    putGfn(h, d);
  }
  return out.result;
}

/** In Xen's order of questions. p2m lock held. */
function violationResult(h: Host, d: Domain, g: number, leaf: Leaf, needed: number): number {
  const write = needed === SLOT_W;
  const { type, mfn } = leaf;
  if (d.crashed || d.dying) return accessResult.crashed;
  if (type === p2mType.mmioDm) return accessResult.emulated;
  if (isLent(type)) {
    // Lent meanwhile: whoever did that says so, and the vCPU tries again.
    if ((cpuRights(type, leaf.access) & needed) === needed) return accessResult.lendFault;
    return faultOnLent(h, d, g, write);
  }
  if (write && discardsWrites(type)) return accessResult.discarded;
  if (write && type === p2mType.ioreqServer && d.r.ioreqServer !== 0) return accessResult.emulated;
  if (mfn === INVALID_MFN || type === p2mType.ramBroken) return accessResult.emulated;
  if (isRam(type)) {
    // Spurious, too: another vCPU may have populated the page or logged the write meanwhile.
    if (!write || type !== p2mType.ramLogdirty) return accessResult.ok;
    if (dirtyFault(h, d, g) !== -errno.ENOMEM) return accessResult.ok;
    // Deviation: Xen lets the vCPU fault for ever, until somebody gives the domain table memory.
    domainCrash(
      h,
      d,
      `domain_crash called from p2m.c: d${d.domid} has no table memory to log a write at ${g.toString(16)}`,
    );
    return accessResult.crashed;
  }
  if ((cpuRights(type, leaf.access) & needed) === needed) {
    if (!write || type !== p2mType.mmioDirect || !isMmioRo(h, mfn)) return accessResult.ok;
    return accessResult.discarded;
  }
  reportViolation(h, d, g, leaf, needed);
  return accessResult.crashed;
}

/** Nobody answers for this access. */
function reportViolation(h: Host, d: Domain, g: number, { type, mfn, access }: Leaf, needed: number): void {
  const rights = cpuRights(type, access);
  // Exit qualification: the access in bits 0 and 1, the entry's rights from bit 3, a valid linear address in bits 7 and 8.
  const raw = 0x180 | needed | (rights << 3);
  const letters = (bits: number): string =>
    `${bits & SLOT_R ? 'r' : '-'}${bits & SLOT_W ? 'w' : '-'}${bits & SLOT_X ? 'x' : '-'}`;
  const gpa = (g * 4096).toString(16).padStart(14, '0');
  domainCrash(
    h,
    d,
    `d${d.domid}v${h.currentVcpu} EPT violation 0x${raw.toString(16)} (${letters(needed)}/${letters(rights)}) ` +
      `gpa 0x${gpa} mfn 0x${mfn.toString(16)} type ${type}`,
  );
}
