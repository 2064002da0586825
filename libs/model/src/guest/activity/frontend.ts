// A frontend that grants pages to a backend for one use after the other. When it hears that the backend has unmapped them it withdraws
// the grants, and with a page that is free it does something else: it writes there, and looks later whether anybody else has.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { type Call, physmapSpace } from '../../hypercall/calls.ts';
import { errnoName } from '../../hypercall/errno.ts';
import { pageState } from '../guest-memory.ts';
import { GrantFrontend } from '../mm/grant-frontend.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { firstRef, RING_REF, Ring, ringState, SETS } from './ring.ts';
import type { FrontendSpec } from './spec.ts';

type Figure = 'granted' | 'freed' | 'deferred' | 'early' | 'overwritten';
interface Data {
  readonly ring: number;
  readonly pages: readonly number[];
}
type Context = ActivityContext<FrontendSpec, Data, Figure>;

const GTF_permit_access = 1;
/** Between two looks at the ring, in guest milliseconds. */
const POLL_MS = 15;

class Frontend implements Part {
  private readonly c: Context;
  private readonly ring: Ring;
  private readonly grants: GrantFrontend;
  private readonly tableGfn: number;
  /** What was written into each page since it is free; 0: it is not. */
  private readonly reused: number[];
  private use = 0;
  /** The last use that the backend has ended. */
  private ended = -1;
  private written = 0;
  private early = 0;

  constructor(c: Context) {
    this.c = c;
    const { task, data, unusedGfn, sharing } = c;
    this.ring = new Ring(task.port, data.ring);
    this.tableGfn = unusedGfn;
    const platform = {
      violation: (v: Parameters<Context['violation']>[0]): void => {
        this.early++;
        c.violation(v);
      },
    };
    this.grants = new GrantFrontend(task.port, platform, this.tableGfn, sharing.grantBusy);
    this.reused = new Array<number>(data.pages.length).fill(0);
  }

  open(): string | null {
    const { task, data } = this.c;
    const table = { domid: DOMID_SELF, space: physmapSpace.grantTable, idx: 0, gpfn: this.tableGfn, size: 0 };
    const { rc } = task.port.call({ op: 'add_to_physmap', ...table });
    if (rc !== 0) return `its grant table cannot be mapped: ${errnoName(rc)}`;
    this.ring.write({ use: 0, state: ringState.none });
    task.port.multicall([this.entry(RING_REF, data.ring)]);
    this.grantNext();
    return null;
  }

  private entry(index: number, frame: number): Call {
    const rest = { start: 0, length: 0, transDomid: 0, transRef: 0 };
    const domid = this.c.board.peer(0);
    return {
      op: 'grant_entry_set',
      gfn: this.tableGfn,
      index,
      version: 1,
      flags: GTF_permit_access,
      domid,
      frame,
      ...rest,
    };
  }

  private pagesOf(use: number): { page: number; ref: number; gfn: number }[] {
    const { pages } = this.c.spec;
    const first = firstRef(use, pages);
    return Array.from({ length: pages }, (_, i) => {
      const page = (use % SETS) * pages + i;
      return { page, ref: first + i, gfn: this.c.data.pages[page] ?? -1 };
    });
  }

  private grantNext(): void {
    const { task, board } = this.c;
    this.use++;
    const pages = this.pagesOf(this.use);
    this.lookAt(pages);
    for (const { page } of pages) this.reused[page] = 0;
    task.port.multicall(pages.map(({ ref, gfn }) => this.entry(ref, gfn)));
    board.add('granted', pages.length);
    this.ring.write({ use: this.use, state: ringState.granted });
  }

  /** A page that the frontend used for itself meanwhile must hold what it wrote. */
  private lookAt(pages: readonly { page: number; gfn: number }[]): void {
    const { task, board, violation } = this.c;
    const used = pages.filter(({ page }) => this.reused[page] !== 0);
    if (used.length === 0) return;
    const { tags = [] } = task.port.call({ op: 'load', frames: { frames: used.map(({ gfn }) => gfn) } });
    for (const [i, { page, gfn }] of used.entries()) {
      const expected = this.reused[page] ?? 0;
      const found = tags[i] ?? -1;
      if (found === expected) continue;
      board.add('overwritten');
      const text = `the frontend wrote ${expected.toString(16)} into page ${gfn.toString(16)} when it was free again, and finds ${found.toString(16)}: the backend's device wrote there`;
      violation({ invariant: 'noWriteLost', text, evidence: { gfn, expected, found } });
    }
  }

  slice(now: number): number {
    if (this.grants.waiting > 0) this.grants.retry();
    if (this.ended === this.use) {
      // Of the next set some may still be on the list.
      if (this.grants.isWaiting(this.pagesOf(this.use + 1).map(({ ref }) => ref))) return now + POLL_MS;
      this.grantNext();
    }
    const { use, state } = this.ring.read();
    if (use !== this.use || state !== ringState.unmapped) return now + POLL_MS;
    this.endUse(use);
    return now;
  }

  private endUse(use: number): void {
    const { board, task } = this.c;
    const before = this.early;
    for (const { page, ref, gfn } of this.pagesOf(use)) {
      const free = this.grants.endAccess(ref, gfn);
      board.add(free ? 'freed' : 'deferred');
      if (!free) continue;
      const tag = tagOf(task.seed, page, this.written++);
      this.reused[page] = tag;
      task.port.call({ op: 'store', frames: { start: gfn, count: 1 }, tag });
    }
    board.add('early', this.early - before);
    board.attempt();
    this.ended = use;
  }
}

export const frontend: ActivityKind<FrontendSpec, Data, Figure> = {
  figures: ['granted', 'freed', 'deferred', 'early', 'overwritten'],
  roles: 1,
  sleepers: [],
  boot: ({ pages }, { memory }) => {
    const [ring = -1, ...rest] = memory.allocPages(1 + SETS * pages, pageState.pinned);
    return { ring, pages: rest };
  },
  part: (context) => new Frontend(context),
};
