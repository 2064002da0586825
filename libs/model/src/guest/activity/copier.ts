// A guest whose hypercalls name lent pages: it touches the buffer, so that it is there, and has Xen copy a page of its own into each page
// of it (a grant copy between its own gfns). As proposed such a copy finds a hole.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { pageState } from '../guest-memory.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import type { CopierSpec } from './spec.ts';

type Figure = 'copies' | 'copied' | 'refused';
type Context = ActivityContext<CopierSpec, { readonly page: number }, Figure>;

/** Bytes: a frame's content is one tag, so any part carries it over. */
const LENGTH = 8;

class PageCopier implements Part {
  private readonly c: Context;
  private written = 0;

  constructor(c: Context) {
    this.c = c;
  }

  slice(now: number): number {
    const { task, spec, data, board } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    const tag = tagOf(task.seed, data.page, this.written++);
    const ops = Array.from({ length: spec.pages }, (_, i) => ({
      sourceDomid: DOMID_SELF,
      sourceFrame: data.page,
      sourceOffset: 0,
      destDomid: DOMID_SELF,
      destFrame: spec.window + i,
      destOffset: 0,
      length: LENGTH,
      flags: 0,
    }));
    const answers = task.port.multicall([
      { op: 'touch', frames: { start: spec.window, count: spec.pages } },
      { op: 'store', frames: { start: data.page, count: 1 }, tag },
      { op: 'gnttab_copy', ops },
    ]);
    const [, , copy] = answers;
    const statuses = copy && 'statuses' in copy ? (copy.statuses ?? []) : [];
    const copied = statuses.filter((status) => status === 0).length;
    board.add('copies', ops.length);
    board.add('copied', copied);
    board.add('refused', ops.length - copied);
    board.attempt(ops.length);
    return now;
  }
}

export const copier: ActivityKind<CopierSpec, { readonly page: number }, Figure> = {
  figures: ['copies', 'copied', 'refused'],
  roles: 1,
  sleepers: [],
  boot: (_, { memory }) => ({ page: memory.allocPages(1, pageState.pinned)[0] ?? 0 }),
  part: (context) => new PageCopier(context),
};
