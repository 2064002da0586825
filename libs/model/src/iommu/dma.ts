// One DMA transaction of a device: open, translate, access a frame, close. It runs on a DMA thread beside all pCPUs, takes no
// lock and waits for nobody; a synchronous flush waits for it instead. Event invariants are checked at the access itself:
// the frame must not be free, and must be the domain's own or have been lent to it when it was mapped.
import { type Domid, formatSbdf, INVALID_MFN, type Mfn, type Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { slotFrame, slotLow, slotType } from '../p2m/entry.ts';
import { isSpecial } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { classifyFault, type FaultCause } from './fault-cause.ts';
import { busMasterIsOff, recordFault } from './faults.ts';
import type { Unit } from './iommu-state.ts';
import { Translator } from './translation.ts';
import { domidOfDid, FIRST_QUARANTINE_DID } from './vtd/domain-ids.ts';
import { SLOT_LENT } from './vtd/entry.ts';
import { WALK_READ, WALK_WRITE } from './walk.ts';

const C_TRANSACTIONS = counter('dma.transactions');

/** The device's bus mastering is off: the request never left it. */
export const BUS_MASTER_OFF = -1;
/** What a read finds where nothing answers. */
const ALL_ONES = -1;

export class DmaThread {
  private readonly h: Host;
  private readonly thread: number;
  private readonly translator: Translator;
  /** Index of the device used last: bursts stay with one. */
  private device = -1;
  private sbdf = -1;
  /** Requests so far: a device uses its phantom functions in turn. */
  private turn = 0;
  /** Contents tag that the last read found; all ones after a fault. */
  tag = 0;
  /** Frame that the last request reached, if it did not fault. */
  mfn = -1;
  /** Bus frame that it asked for. */
  dfn = -1;
  /** A mediated device works for one guest at a time: whose memory it must be in now. -1: the one of its context entry. */
  onBehalfOf: Domid | -1 = -1;
  /** What the tables held when the last fault was looked into. */
  lastFault: FaultCause | null = null;

  constructor(h: Host, thread: number) {
    this.h = h;
    this.thread = thread;
    this.translator = new Translator(h);
  }

  /**
   * One read or write of a page by a device of this host. 0 = done, BUS_MASTER_OFF, or the fault reason; a faulted request is
   * not replayed, its record waits for serviceFaults.
   */
  transaction(sbdf: Sbdf | number, dfn: number, kind: 'r' | 'w', tag: number): number {
    const { h } = this;
    const device = this.deviceOf(sbdf);
    if (busMasterIsOff(h, device)) return BUS_MASTER_OFF;
    h.counters.add(C_TRANSACTIONS);
    this.dfn = dfn;
    const write = kind === 'w';
    if (!h.config.iommuEnabled) {
      this.access(dfn as Mfn, write, tag);
      return 0;
    }
    const unit = h.iommu.unitOf(device);
    const requester = h.iommu.requesters.used(device, this.turn++);
    let reason = 0;
    h.iommu.inFlight.open(this.thread, unit.index);
    try {
      const slot = this.translator.translate(unit, requester, dfn, write ? WALK_WRITE : WALK_READ);
      if (slot < 0) reason = -slot;
      else {
        const m = slotFrame(slot) as Mfn;
        step(stepKind.dma, dfn);
        this.mfn = m;
        if (this.onBehalfOf < 0) this.check(unit, device, dfn, m, slot);
        else this.checkMediated(device, dfn, m, this.onBehalfOf as Domid);
        this.access(m, write, tag);
      }
    } finally {
      h.iommu.inFlight.close(this.thread);
    }
    if (reason !== 0) {
      this.tag = ALL_ONES;
      recordFault(h, unit, requester, dfn, write, reason);
      this.lastFault = classifyFault(h, device, dfn);
    }
    return reason;
  }

  private deviceOf(sbdf: number): number {
    if (sbdf !== this.sbdf) {
      this.device = this.h.iommu.deviceIndex(sbdf);
      this.h.assert(this.device >= 0, `device ${formatSbdf(sbdf as Sbdf)} is in the host's description`);
      this.sbdf = sbdf;
    }
    return this.device;
  }

  /** Frames outside the table (BARs of other devices) swallow writes and answer all ones. */
  private access(m: Mfn, write: boolean, tag: number): void {
    const { frames } = this.h;
    if (m === INVALID_MFN || !frames.valid(m)) {
      this.tag = ALL_ONES;
    } else if (write) Atomics.store(frames.tag, m, tag);
    else this.tag = Atomics.load(frames.tag, m);
  }

  /** The context entry is dom0's whoever the device works for: only its mediator keeps it out of others' memory. */
  private checkMediated(device: number, dfn: number, m: Mfn, guest: Domid): void {
    const { h } = this;
    if (!h.frames.valid(m) || !isHeapRam(h, m)) return;
    const owner = h.frames.ownerOf(m);
    if (owner === guest) return;
    const free = owner < 0 && Atomics.load(h.frames.count, m) <= 0;
    h.platform.violation({
      invariant: free ? 'noGpuReachIntoFreedFrame' : 'noGpuReachIntoForeignFrame',
      text:
        `${formatSbdf(h.iommu.device(device).sbdf)}, working for d${guest}, reaches mfn ${m.toString(16)} at bus frame ${dfn.toString(16)}, ` +
        (free ? 'which is free' : `which belongs to ${owner < 0 ? 'Xen' : `d${owner}`}`),
      evidence: { sbdf: h.iommu.device(device).sbdf, domid: guest, dfn, mfn: m, owner },
    });
  }

  /** A legal transaction cannot see its frame change hands: whoever takes the frame away flushes first, and that waits. */
  private check(unit: Unit, device: number, dfn: number, m: Mfn, slot: number): void {
    const { h, translator } = this;
    if (translator.passThrough || !h.frames.valid(m)) return;
    const domid = domidOfDid(unit, translator.did);
    const owner = h.frames.ownerOf(m);
    if (owner === domid || !isHeapRam(h, m)) return;
    // While a device changes hands its own TLB is flushed after its context: until then it is its old owner's too.
    if (translator.translated && owner >= 0 && owner === h.iommu.ownerOf(device)) return;
    const free = owner < 0 && Atomics.load(h.frames.count, m) <= 0;
    const special = translator.shared ? isSpecial(slotType(slotLow(slot))) : (slot & SLOT_LENT) !== 0;
    const quarantined = domid >= FIRST_QUARANTINE_DID && h.iommu.scratch[0] === m + 1;
    if (!free && (quarantined || (special && owner + 1 === translator.ownerThen))) return;
    h.platform.violation({
      invariant: free ? 'noDmaToFreedFrame' : 'noDmaToForeignFrame',
      text:
        `a DMA of ${formatSbdf(h.iommu.device(device).sbdf)} for d${domid} at dfn ${dfn.toString(16)} reaches mfn ${m.toString(16)}, ` +
        (free ? 'which is free' : `which belongs to ${owner < 0 ? 'Xen' : `d${owner}`}`),
      evidence: {
        sbdf: h.iommu.device(device).sbdf,
        domid,
        dfn,
        mfn: m,
        owner,
        ownerWhenMapped: translator.ownerThen - 1,
      },
    });
  }
}

function isHeapRam(h: Host, m: number): boolean {
  for (const { start, end } of h.config.heapRanges) if (m >= start && m < end) return true;
  return false;
}
