// The ways in which a backend's memory can be shown to a guest, side by side: what it costs to show and to take back, and whether the
// backend's host gets its memory when it wants it while the guest goes on using it.
import { gtf } from '#model/grant/shared-entry';
import { gntmap } from '#model/grant/status';
import { physmapSpace } from '#model/hypercall/calls';
import { type ErrnoName, errno } from '#model/hypercall/errno';
import { hypercall } from '../../libs/model/test-support/hypercall-fixture.ts';
import type { Cost, Meter } from './meter.ts';
import { LENDER, Stage, WINDOW } from './stage.ts';

export const SHOWN = 64;
/** Where the other ways show their pages: no window is there. */
const PLACE = 0x20_000;
const TABLE = 0x30_000;
const FIRST_REF = 8;
/** Device memory of the host, outside its RAM. */
const BAR = 0x80_000;

export interface Way {
  readonly name: string;
  readonly show: Cost;
  /** Null: its owner has no call for it. */
  readonly takeBack: Cost | null;
  /** What the call to take back answered, over all pages. */
  readonly answer: string;
  /** Pages that the host had free again after the owner gave its pages up. */
  readonly freed: number;
  /** What the guest finds at its next touch. */
  readonly nextTouch: string;
}

export const errnoText = (rc: number): string => {
  if (rc >= 0) return `${rc}`;
  const name = (Object.keys(errno) as ErrnoName[]).find((key) => errno[key] === -rc); // the table's own keys
  return name ? `-${name}` : `${rc}`;
};

function touchText(stage: Stage, gfn: number): string {
  const before = stage.bed.h.counters.read('lend.fault');
  try {
    const { faulted = 0, tags = [] } = hypercall(stage.bed, stage.borrower, {
      op: 'load',
      frames: { start: gfn, count: 1 },
    });
    return faulted > 0 ? 'nothing there: the access goes to the device model' : `the page (${tags[0]})`;
  } catch {
    // The fixture's call refuses to wait.
    const asked = stage.bed.h.counters.read('lend.fault') > before;
    return asked ? 'a fault: its vCPU waits, the lender is told' : 'it waits';
  }
}

/** The owner gives its pages up: how many frames the host has then. */
function giveUp(stage: Stage): number {
  const { h } = stage.bed;
  const before = h.heap.freePages;
  const extents = { start: LENDER[0], count: SHOWN };
  hypercall(stage.bed, stage.lender, { op: 'decrease_reservation', domid: 0, order: 0, extents });
  return h.heap.freePages - before;
}

function lending(meter: Meter, takesBack: boolean): Way {
  const stage = new Stage();
  const show = meter.measure(() => stage.lend(0, 0, SHOWN));
  hypercall(stage.bed, stage.borrower, { op: 'touch', frames: { start: WINDOW[0], count: SHOWN } });
  let rc = 0;
  const cost = takesBack ? meter.measure(() => (rc = stage.revoke(0, 0, SHOWN).rc)) : null;
  return {
    name: takesBack ? 'lend / revoke' : 'fixed blob (lent once, given back by hotplug)',
    show,
    takeBack: cost,
    answer: takesBack ? `${errnoText(rc)}: all ${SHOWN}` : 'no call: the guest is asked, and may not answer',
    freed: giveUp(stage),
    nextTouch: touchText(stage, WINDOW[0]),
  };
}

function granting(meter: Meter): Way {
  const stage = new Stage();
  const { bed, lender, borrower } = stage;
  hypercall(bed, lender, {
    op: 'add_to_physmap',
    domid: 0,
    space: physmapSpace.grantTable,
    idx: 0,
    gpfn: TABLE,
    size: 0,
  });
  const each = Array.from({ length: SHOWN }, (_, i) => i);
  const rest = { start: 0, length: 0, transDomid: 0, transRef: 0, version: 1 };
  const show = meter.measure(() => {
    for (const i of each) {
      const entry = { index: FIRST_REF + i, flags: gtf.permitAccess, domid: borrower.domid, frame: LENDER[0] + i };
      hypercall(bed, lender, { op: 'grant_entry_set', gfn: TABLE, ...entry, ...rest });
    }
    const ops = each.map((i) => ({ hostAddr: (PLACE + i) * 4096, flags: gntmap.host, ref: FIRST_REF + i, domid: 0 }));
    const { results = [] } = hypercall(bed, borrower, { op: 'gnttab_map_grant_ref', ops });
    if (results.some(({ status }) => status !== 0)) throw new Error('a grant was not mapped');
  });
  const answers = new Map<number, number>();
  const takeBack = meter.measure(() => {
    for (const i of each) {
      const { rc } = hypercall(bed, lender, { op: 'grant_entry_end', gfn: TABLE, index: FIRST_REF + i, version: 1 });
      answers.set(rc, (answers.get(rc) ?? 0) + 1);
    }
  });
  const answer = [...answers].map(([rc, n]) => `${errnoText(rc)}: ${n}`).join(', ');
  return {
    name: 'grant',
    show,
    takeBack,
    answer,
    freed: giveUp(stage),
    nextTouch: touchText(stage, PLACE),
  };
}

function foreign(meter: Meter): Way {
  const stage = new Stage();
  const { bed, lender, borrower } = stage;
  const { domid } = borrower;
  const show = meter.measure(() => {
    const pages = { idxs: { start: LENDER[0], count: SHOWN }, gpfns: { start: PLACE, count: SHOWN } };
    const call = {
      op: 'add_to_physmap_batch',
      domid,
      space: physmapSpace.gmfnForeign,
      foreignDomid: 0,
      ...pages,
    } as const;
    const { errs = [] } = hypercall(bed, lender, call);
    if (errs.some((rc) => rc !== 0)) throw new Error('a foreign frame was not mapped');
  });
  const before = bed.h.heap.freePages;
  const kept = giveUp(stage);
  let rc = 0;
  const takeBack = meter.measure(() => {
    for (let i = 0; i < SHOWN; i++) {
      rc = hypercall(bed, lender, { op: 'remove_from_physmap', domid, gpfn: PLACE + i }).rc || rc;
    }
  });
  return {
    name: 'gmfn_foreign',
    show,
    takeBack,
    answer: `${errnoText(rc)}: all ${SHOWN}, a call a page; until then ${kept} were free`,
    freed: bed.h.heap.freePages - before,
    nextTouch: touchText(stage, PLACE),
  };
}

function mmio(meter: Meter): Way {
  const stage = new Stage();
  const { bed, lender, borrower } = stage;
  const { domid } = borrower;
  hypercall(bed, lender, { op: 'iomem_permission', domid, firstMfn: BAR, nrMfns: SHOWN, allow: true });
  const map = (add: boolean): number =>
    hypercall(bed, lender, { op: 'memory_mapping', domid, firstGfn: PLACE, firstMfn: BAR, nrMfns: SHOWN, add }).rc;
  let rc = 0;
  const show = meter.measure(() => (rc = map(true)));
  if (rc !== 0) throw new Error(`memory_mapping: ${rc}`);
  const takeBack = meter.measure(() => (rc = map(false)));
  return {
    name: 'memory_mapping (MMIO, so VRAM only)',
    show,
    takeBack,
    answer: `${errnoText(rc)}: all ${SHOWN}; more than 64 pieces take several calls, and splitting a large leaf may need a table`,
    freed: 0,
    nextTouch: touchText(stage, PLACE),
  };
}

export const allWays = (meter: Meter): Way[] => [
  granting(meter),
  foreign(meter),
  mmio(meter),
  lending(meter, true),
  lending(meter, false),
];
