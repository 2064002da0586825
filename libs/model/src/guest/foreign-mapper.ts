// dom0 maps frames of another domain to copy an image into it, as privcmd does for the toolstack: slots, a batch of foreign
// mappings, the stores, unmapping. Where the slots are decides what it costs: holes made in the mapper's own RAM shatter its
// superpages; unused space above RAM does not (CONFIG_XEN_UNPOPULATED_ALLOC). Runs on the balloon's vCPU.
import { DOMID_SELF } from '../frames/addresses.ts';
import { type Call, physmapSpace } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import type { Balloon } from './balloon.ts';
import type { ForeignCopy, GuestSpec } from './guest-spec.ts';
import type { Task, TaskContext } from './task.ts';

const RETRY_MS = 1_000;
const MAX_BATCH = 512;
/** How often a batch may find no slots before the copy fails. */
const MAX_TRIES = 5;

interface Progress {
  readonly copy: ForeignCopy;
  next: number;
  mapped: number;
  failed: number;
  firstError: number;
  tries: number;
}

export class ForeignMapper implements Task {
  readonly id = 'foreign-mapper';
  private readonly c: TaskContext;
  private readonly balloon: Balloon;
  private readonly place: GuestSpec['foreignMapPlace'];
  private readonly slotsBase: number;
  private readonly queue: Progress[] = [];

  /** `slotsBase`: gfns from here on are used by nothing, for mappings above RAM. */
  constructor(context: TaskContext, balloon: Balloon, place: GuestSpec['foreignMapPlace'], slotsBase: number) {
    this.c = context;
    this.balloon = balloon;
    this.place = place;
    this.slotsBase = slotsBase;
  }

  request(copy: ForeignCopy): void {
    this.queue.push({ copy, next: 0, mapped: 0, failed: 0, firstError: 0, tries: 0 });
  }

  /** One batch: take slots, map, write, unmap, give the slots back. */
  step(now: number): number {
    const progress = this.queue[0];
    if (!progress) return Number.POSITIVE_INFINITY;
    const { copy } = progress;
    if (progress.next >= copy.pages) {
      this.queue.shift();
      const { mapped, failed, firstError } = progress;
      this.c.sink.event('foreignCopyDone', { id: copy.id, domid: copy.domid, mapped, failed, firstError });
      return now;
    }
    // The holes of the last batch are refilled first, as between two mappings of a real builder.
    if (this.place === 'ballooned-hole' && this.balloon.refilling) return now;
    const wanted = Math.min(copy.batch, MAX_BATCH, copy.pages - progress.next);
    const slots = this.takeSlots(wanted);
    if (slots.length < wanted) {
      this.returnSlots(slots);
      return this.outOfSlots(progress, now);
    }
    progress.tries = 0;
    this.copyBatch(progress, slots.slice(0, wanted));
    this.returnSlots(slots);
    progress.next += wanted;
    return now;
  }

  /** As xen_alloc_ballooned_pages' -ENOMEM, after a few tries. */
  private outOfSlots(progress: Progress, now: number): number {
    if (++progress.tries < MAX_TRIES) return now + RETRY_MS;
    progress.failed += progress.copy.pages - progress.next;
    progress.firstError ||= -errno.ENOMEM;
    progress.next = progress.copy.pages;
    return now;
  }

  private takeSlots(count: number): number[] {
    if (this.place === 'ballooned-hole') return this.balloon.takeSlots(count);
    return Array.from({ length: count }, (_, i) => this.slotsBase + i);
  }

  private returnSlots(slots: readonly number[]): void {
    if (this.place === 'ballooned-hole') this.balloon.returnSlots(slots);
  }

  private copyBatch(progress: Progress, slots: readonly number[]): void {
    const { port } = this.c;
    const { copy } = progress;
    const answer = port.call({
      op: 'add_to_physmap_batch',
      domid: DOMID_SELF,
      space: physmapSpace.gmfnForeign,
      foreignDomid: copy.domid,
      idxs: { start: copy.gfn + progress.next, count: slots.length },
      gpfns: { frames: Uint32Array.from(slots) },
    });
    // The call as a whole succeeds even if entries do not: each has its own error.
    const errorOf = (i: number): number => (answer.rc < 0 ? answer.rc : (answer.errs?.[i] ?? -errno.EINVAL));
    const mapped = slots.filter((_, i) => errorOf(i) === 0);
    const failed = slots.findIndex((_, i) => errorOf(i) !== 0);
    if (failed >= 0 && progress.firstError === 0) progress.firstError = errorOf(failed);
    progress.mapped += mapped.length;
    progress.failed += slots.length - mapped.length;
    if (mapped.length === 0) return;
    port.call({ op: 'store', frames: { frames: Uint32Array.from(mapped) }, tag: copy.tag });
    port.multicall(mapped.map((gpfn): Call => ({ op: 'remove_from_physmap', domid: DOMID_SELF, gpfn })));
  }

  stop(): void {
    this.queue.length = 0;
  }
}
