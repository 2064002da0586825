// One pass over the host at a safepoint: all p2m trees, all I/O tables, the frame table. Every invariant then asks the
// survey, so that a check of all of them costs one walk. It judges leaf by leaf only what cannot be judged from sums; it
// takes no lock and announces no step, because nobody runs.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { touchesBusFrames } from '../iommu/bus-space.ts';
import { bfnFlag } from '../iommu/pv-iommu-state.ts';
import { deviceRights } from '../p2m/device-view.ts';
import { dirtyTables } from '../p2m/dirty-bitmap.ts';
import { SLOT_SP, slotAccess, slotFrame, slotLow, slotType } from '../p2m/entry.ts';
import { isGrant, isLent, isPod, isRam, p2mType } from '../p2m/types.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';
import { Findings } from './findings.ts';
import { heldByGrants } from './grant-invariants.ts';
import { judgeLeaf } from './leaf-invariants.ts';
import { Runs } from './runs.ts';

/** What a frame without an owner may be marked as. */
const UNOWNED_FLAGS = frameFlag.freeHead | frameFlag.notRam | frameFlag.firmware;
const ROOT_LEVEL = 3;
const PRESENT_IO = 3;
/** Domids that can own frames, reserved ones included. */
const OWNERS = 0x8000;

/** What one domain's tables hold. */
export interface DomainSurvey {
  readonly d: Domain;
  ramPages: number;
  podPages: number;
  foreignLeaves: number;
  grantLeaves: number;
  /** Leaves of type lent, and places for them, as gfn runs with the frame in `to`. */
  readonly lentRuns: Runs;
  readonly lentPlaces: Runs;
  ioreqLeaves: number;
  /** What a device may reach according to the p2m, and what the domain's own I/O tables say. */
  readonly p2mRuns: Runs;
  readonly ioRuns: Runs;
  /** Bus frames that dom0 manages itself. */
  readonly busRuns: Runs;
  readonly podRuns: Runs;
}

export class Survey {
  readonly h: Host;
  readonly findings = new Findings();
  readonly domains: DomainSurvey[] = [];
  /** References that foreign and lent leaves and mapped grants hold, by frame. */
  readonly foreignRefs = new Map<number, number>();
  /** Per owner (domid): frames with a reference, those of them that are Xen's, in the PoD cache, with a valid M2P. */
  readonly owned = new Int32Array(OWNERS);
  readonly special = new Int32Array(OWNERS);
  readonly cached = new Int32Array(OWNERS);
  readonly withM2p = new Int32Array(OWNERS);
  /** Frames in use without an owner: table pages. */
  anonymous = 0;
  /** 1 per table page that a root leads to. */
  readonly reached: Uint8Array;
  reachedCount = 0;

  constructor(h: Host) {
    this.h = h;
    this.reached = new Uint8Array(h.tables.pages);
    for (const d of h.allDomains()) {
      this.domains.push(this.surveyDomain(d));
      for (const { mfn, references } of heldByGrants(h, d)) this.refer(mfn, references);
    }
    for (const { mfn, flags } of h.pvIommu.records()) if ((flags & bfnFlag.noRef) === 0) this.refer(mfn, 1);
    this.surveyFrames();
  }

  /** RAM that Xen manages; MMIO may lie inside the frame table too. */
  isHostRam(m: number): boolean {
    return this.h.config.heapRanges.some((r) => m >= r.start && m < r.end);
  }

  private surveyDomain(d: Domain): DomainSurvey {
    const s: DomainSurvey = {
      d,
      ramPages: 0,
      podPages: 0,
      foreignLeaves: 0,
      grantLeaves: 0,
      lentRuns: new Runs(),
      lentPlaces: new Runs(),
      ioreqLeaves: 0,
      p2mRuns: new Runs(),
      ioRuns: new Runs(),
      busRuns: new Runs(),
      podRuns: new Runs(),
    };
    if (d.r.p2mRoot !== 0) this.walkP2m(s, d.r.p2mRoot, ROOT_LEVEL, 0, 0);
    for (const table of dirtyTables(this.h, d.r.dirtyRoot)) this.reach(table, `the dirty bitmap of d${d.domid}`);
    if (d.r.iommuRoot !== 0) this.walkIo(s, d.r.iommuRoot, ROOT_LEVEL, 0);
    // Detached tables of a dying domain are reachable by nobody but their free loop.
    if (d.r.iommuDetached !== 0) this.reachTree(d.r.iommuDetached, ROOT_LEVEL);
    return s;
  }

  /** Marks a table as reached; false when it was already (a finding). */
  private reach(table: number, from: string): boolean {
    if (this.reached[table] !== 0) {
      this.findings.add('everyTableIsReachableOnce', `table ${table} is linked twice, again from ${from}`, { table });
      return false;
    }
    this.reached[table] = 1;
    this.reachedCount++;
    return true;
  }

  /** `pending`: low bits of the entries above, of which recalc and misconfig hold for all below. */
  private walkP2m(s: DomainSurvey, table: number, level: number, base: number, pending: number): void {
    if (!this.reach(table, `the p2m of d${s.d.domid}`)) return;
    const { slots } = this.h.tables;
    const span = 512 ** level;
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = slots[table * SLOTS_PER_TABLE + i] as number;
      if (slot === 0) continue;
      const gfn = base + i * span;
      if (level === 0 || (slotLow(slot) & SLOT_SP) !== 0) {
        this.leaf(s, gfn, slot, level, span);
        judgeLeaf(this.h, this.findings, s.d, gfn, slot, level, pending);
      } else this.walkP2m(s, slotFrame(slot), level - 1, gfn, pending | slotLow(slot));
    }
  }

  private leaf(s: DomainSurvey, gfn: number, slot: number, level: number, pages: number): void {
    const low = slotLow(slot);
    const type = slotType(low);
    const mfn = slotFrame(slot);
    if (slotAccess(low) <= 10 && s.d.has('iommu')) {
      const rights = deviceRights(this.h, s.d, slot);
      if (rights !== 0) s.p2mRuns.add(gfn, mfn, pages, rights);
    }
    if (isPod(type)) {
      s.podPages += pages;
      s.podRuns.add(gfn, gfn, pages, 0);
      if (s.d.has('hapPtShare') && (low & PRESENT_IO) !== 0) {
        this.findings.add('noIommuMappingForPodGfn', `d${s.d.domid} gfn ${hex(gfn)} is PoD and readable by devices`, {
          domid: s.d.domid,
          gfn,
        });
      }
      return;
    }
    if (isLent(type)) s.lentPlaces.add(gfn, gfn, pages, 0);
    if (mfn === INVALID_MFN) return;
    if (level > 0 && mfn % pages !== 0) {
      this.findings.add('leafIsAligned', `d${s.d.domid} gfn ${hex(gfn)} maps mfn ${hex(mfn)} with ${pages} pages`, {
        gfn,
        mfn,
      });
    }
    if (type === p2mType.mapForeign) {
      s.foreignLeaves++;
      this.refer(mfn, 1);
      this.othersFrame(s, gfn, mfn);
    } else if (isGrant(type)) {
      s.grantLeaves++;
      this.othersFrame(s, gfn, mfn);
    } else if (type === p2mType.lent) {
      s.lentRuns.add(gfn, mfn, pages, low & 3);
      for (let i = 0; i < pages && this.isHostRam(mfn + i); i++) {
        this.refer(mfn + i, 1);
        this.othersFrame(s, gfn + i, mfn + i);
      }
    } else if (isRam(type) && type !== p2mType.ramShared) this.ramLeaf(s, gfn, mfn, pages, type);
  }

  private refer(mfn: number, references: number): void {
    this.foreignRefs.set(mfn, (this.foreignRefs.get(mfn) ?? 0) + references);
  }

  /** A leaf that shows somebody else's frame. */
  private othersFrame(s: DomainSurvey, gfn: number, mfn: number): void {
    if (this.h.frames.valid(mfn as never) && this.h.frames.count[mfn] !== 0) return;
    this.findings.add('noP2mLeafToFreeFrame', `d${s.d.domid} gfn ${hex(gfn)} maps the free frame ${hex(mfn)}`, {
      gfn,
      mfn,
    });
  }

  private ramLeaf(s: DomainSurvey, gfn: number, mfn: number, pages: number, type: number): void {
    const { frames } = this.h;
    const { domid } = s.d;
    s.ramPages += pages;
    if (type === p2mType.ioreqServer) s.ioreqLeaves += pages;
    for (let i = 0; i < pages; i++) {
      const m = (mfn + i) as Parameters<typeof frames.ownerOf>[0];
      if ((frames.flags[m] as number) & frameFlag.podCache) this.mappedCacheFrame(s, gfn + i, m);
      if (frames.m2p[m] === gfn + i + 1 && frames.ownerOf(m) === domid && (frames.count[m] as number) > 0) continue;
      const evidence = { domid, gfn: gfn + i, mfn: m, owner: frames.ownerOf(m), m2p: frames.gfnOf(m) };
      const where = `d${domid} gfn ${hex(gfn + i)} maps mfn ${hex(m)}`;
      if (frames.count[m] === 0) this.findings.add('noP2mLeafToFreeFrame', `${where}, which is free`, evidence);
      else if (frames.ownerOf(m) !== domid) {
        this.findings.add('everyFrameHasOneOwner', `${where}, which d${evidence.owner} owns`, evidence);
      } else this.findings.add('m2pIsInverseOfP2m', `${where}, whose M2P says ${hex(evidence.m2p)}`, evidence);
    }
  }

  private mappedCacheFrame(s: DomainSurvey, gfn: number, mfn: number): void {
    this.findings.add(
      'cacheFramesAreMappedNowhere',
      `d${s.d.domid} gfn ${hex(gfn)} maps ${hex(mfn)} of its PoD cache`,
      {
        domid: s.d.domid,
        gfn,
        mfn,
      },
    );
  }

  private walkIo(s: DomainSurvey, table: number, level: number, base: number): void {
    if (!this.reach(table, `the I/O tables of d${s.d.domid}`)) return;
    const { slots } = this.h.tables;
    const span = 512 ** level;
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = slots[table * SLOTS_PER_TABLE + i] as number;
      if ((slot & PRESENT_IO) === 0) continue;
      const dfn = base + i * span;
      if (level > 0 && (slot & SLOT_SP) === 0) this.walkIo(s, slotFrame(slot), level - 1, dfn);
      else if (s.d.isHardware && touchesBusFrames(this.h.config, dfn, span)) {
        s.busRuns.add(dfn, slotFrame(slot), span, slot & PRESENT_IO);
      } else s.ioRuns.add(dfn, slotFrame(slot), span, slot & PRESENT_IO);
    }
  }

  /**
   * Marks a tree of I/O tables that belongs to no live domain: detached, or a quarantined device's. The tables of the scratch
   * page hang in many places on purpose.
   */
  reachTree(table: number, level: number): void {
    if (this.reached[table] !== 0 && this.h.iommu.scratch.indexOf(table, 1) > 0) return;
    if (!this.reach(table, 'a detached tree')) return;
    if (level === 0) return;
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = this.h.tables.slots[table * SLOTS_PER_TABLE + i] as number;
      if ((slot & PRESENT_IO) !== 0 && (slot & SLOT_SP) === 0) this.reachTree(slotFrame(slot), level - 1);
    }
  }

  /** Marks a single table (queued for freeing: what it links is queued or free itself). */
  reachOne(table: number, from: string): void {
    this.reach(table, from);
  }

  private surveyFrames(): void {
    const { frames } = this.h;
    const total = this.h.config.frames;
    for (let chunk = frames.nextUsed(0); chunk < total; ) {
      const end = Math.min(total, chunk + 512 - (chunk % 512));
      for (let m = chunk; m < end; m++) this.frame(m);
      chunk = frames.nextUsed(end);
    }
  }

  private frame(m: number): void {
    const { frames } = this.h;
    const count = frames.count[m] as number;
    const flags = frames.flags[m] as number;
    const owner = frames.ownerOf(m as Parameters<typeof frames.ownerOf>[0]);
    if (owner < 0) {
      if ((flags & frameFlag.table) !== 0) this.anonymous++;
      else if (count !== 0 || (flags & ~UNOWNED_FLAGS) !== 0 || frames.m2p[m] !== 0) {
        this.findings.add(
          'everyFrameHasOneOwner',
          `mfn ${hex(m)} has no owner, but ${count} references, flags ${flags}`,
          {
            mfn: m,
            count,
            flags,
          },
        );
      }
      return;
    }
    this.owned[owner] = (this.owned[owner] as number) + 1;
    if (frames.m2p[m] !== 0) this.withM2p[owner] = (this.withM2p[owner] as number) + 1;
    if ((flags & frameFlag.special) !== 0) this.special[owner] = (this.special[owner] as number) + 1;
    if ((flags & frameFlag.podCache) !== 0) this.cached[owner] = (this.cached[owner] as number) + 1;
    const expected = ((flags & frameFlag.allocated) !== 0 ? 1 : 0) + (this.foreignRefs.get(m) ?? 0);
    if (count !== expected || count === 0) {
      this.findings.add(
        'everyFrameHasOneOwner',
        `mfn ${hex(m)} of d${owner} has ${count} references, ${expected} are known`,
        {
          mfn: m,
          owner,
          count,
          expected,
        },
      );
    }
  }
}

const hex = (n: number): string => (n < 0 ? 'none' : n.toString(16));
