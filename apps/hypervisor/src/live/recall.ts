// What was lately asked of gfns, so that "who changed this page last" has an answer: the calls that change a p2m, the newest
// ones, with the caller and the outcome. Bounded by their number and by the frames that their lists name. It knows calls, no tables.
import { DOMID_SELF } from '#model/frames/addresses';
import type { Answer, Call, Extents } from '#model/hypercall/calls';
import { XENMEMF_populate_on_demand } from '#model/hypercall/calls';
import type { GfnChange } from '#wire/hv-messages';

const CHANGES_MAX = 16_384;
const LISTED_MAX = 2 ** 20;

interface Change {
  readonly tsUs: number;
  readonly caller: number;
  readonly vcpu: number;
  readonly domid: number;
  readonly op: string;
  readonly rc: number;
  readonly order: number;
  readonly extents: Extents;
  readonly note: string;
}

interface Subject {
  readonly domid: number;
  readonly order: number;
  readonly extents: Extents;
  readonly note: string;
}

const range = (start: number, count: number): Extents => ({ start, count });

/** Which gfns of whom a call changes; null: none. */
function subjectOf(call: Call): Subject | null {
  switch (call.op) {
    case 'populate_physmap': {
      const pod = (call.memFlags & XENMEMF_populate_on_demand) !== 0;
      return { domid: call.domid, order: call.order, extents: call.extents, note: pod ? 'populate on demand' : '' };
    }
    case 'decrease_reservation':
      return { domid: call.domid, order: call.order, extents: call.extents, note: 'given up' };
    case 'add_to_physmap':
      return { domid: call.domid, order: 0, extents: range(call.gpfn, Math.max(1, call.size)), note: '' };
    case 'add_to_physmap_batch':
      return { domid: call.domid, order: 0, extents: call.gpfns, note: `of d${call.foreignDomid}` };
    case 'remove_from_physmap':
      return { domid: call.domid, order: 0, extents: range(call.gpfn, 1), note: 'removed' };
    case 'memory_mapping':
      return {
        domid: call.domid,
        order: 0,
        extents: range(call.firstGfn, call.nrMfns),
        note: call.add ? 'device window' : 'device window removed',
      };
    case 'set_mem_type':
      return { domid: call.domid, order: 0, extents: range(call.first, call.count), note: `type ${call.memType}` };
    default:
      return null;
  }
}

function covers({ extents, order }: Change, gfn: number): boolean {
  const pages = 2 ** order;
  if (!('frames' in extents)) return gfn >= extents.start && gfn < extents.start + extents.count * pages;
  const { frames } = extents;
  for (let i = 0; i < frames.length; i++) {
    const first = frames[i] as number; // below its length
    if (gfn >= first && gfn < first + pages) return true;
  }
  return false;
}

const listed = ({ extents }: Change): number => ('frames' in extents ? extents.frames.length : 0);

export class Recall {
  private readonly changes: Change[] = [];
  private frames = 0;

  note(
    { domid: caller, vcpu }: { readonly domid: number; readonly vcpu: number },
    calls: readonly Call[],
    answers: readonly Answer[],
    tsUs: number,
  ): void {
    for (const [i, call] of calls.entries()) {
      const subject = subjectOf(call);
      if (!subject) continue;
      const domid = subject.domid === DOMID_SELF ? caller : subject.domid;
      const change = { ...subject, tsUs, caller, vcpu, domid, op: call.op, rc: answers[i]?.rc ?? 0 };
      this.changes.push(change);
      this.frames += listed(change);
    }
    while (this.changes.length > CHANGES_MAX || this.frames > LISTED_MAX) {
      const oldest = this.changes.shift();
      if (!oldest) break;
      this.frames -= listed(oldest);
    }
  }

  /** The newest first. */
  of(domid: number, gfn: number, max: number): GfnChange[] {
    const found: GfnChange[] = [];
    for (let i = this.changes.length - 1; i >= 0 && found.length < max; i--) {
      const change = this.changes[i] as Change; // in range by the loop's test
      if (change.domid !== domid || !covers(change, gfn)) continue;
      const { tsUs, caller, vcpu, op, rc, order, note } = change;
      found.push({ tsUs, caller, vcpu, op, rc, order, note });
    }
    return found;
  }
}
