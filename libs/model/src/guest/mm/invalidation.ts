// The frame around every change of a page table that takes something away: start, change, end.
import type { Mm } from './mm.ts';
import type { NotifierRange, NotifyEvent } from './notifiers.ts';

export const rangeOf = (start: number, end: number, event: NotifyEvent, blockable = true): NotifierRange => ({
  start,
  end,
  event,
  blockable,
});

/** Runs `change` between start and end; -EAGAIN without running it where a subscriber refused (not blockable). */
export function invalidating(mm: Mm, range: NotifierRange, change: () => number): number {
  const rc = mm.notifiers.start(range);
  if (rc !== 0) return rc;
  try {
    return change();
  } finally {
    mm.notifiers.end(range);
  }
}
