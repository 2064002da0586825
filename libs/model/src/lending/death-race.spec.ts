import { describe, expect, it } from 'vitest';
import { raceCalls } from '../../test-support/call-race.ts';
import { FIRST_REF, showTable, TABLE_GFN } from '../../test-support/grant-fixture.ts';
import { expectSound, hypercall } from '../../test-support/hypercall-fixture.ts';
import { bootLending, LENDER_4K } from '../../test-support/lending-fixture.ts';
import type { Call } from '../hypercall/calls.ts';

const WINDOW = 0x20000;
const AT = 0x4000;

/** A driver domain grants and lends to a guest, which maps, copies and touches, when one of the two is destroyed. */
async function race(victim: 'lender' | 'borrower', delay: number) {
  const { bed, lender, borrower } = bootLending({ pcpus: 3, driverDomain: true });
  const { domid } = borrower;
  const gfns = { start: LENDER_4K, count: 40 };
  showTable(bed, lender);
  const entry = { op: 'grant_entry_set', gfn: TABLE_GFN, version: 1, flags: 1, domid } as const;
  const rest = { start: 0, length: 0, transDomid: 0, transRef: 0 };
  const grants: Call[] = Array.from({ length: 20 }, (_, i) => ({
    ...entry,
    ...rest,
    index: FIRST_REF + i,
    frame: LENDER_4K + i,
  }));
  const lending: Call[] = [
    ...grants,
    { op: 'lend_open', domid, first: WINDOW, count: 600, order: 0, onFailure: 0 },
    { op: 'lend', domid, first: WINDOW + 490, gfns, flags: 0, sequence: 0 },
    { op: 'lend_faults', wait: false },
    { op: 'lend_fail', domid, gfn: WINDOW + 1 },
    { op: 'revoke', domid, first: WINDOW, count: 500, writeProtect: false },
    { op: 'lend', domid, first: WINDOW, gfns, flags: 1, sequence: 0 },
    { op: 'lend_close', domid, first: WINDOW },
  ];
  const maps = Array.from({ length: 20 }, (_, i) => ({
    hostAddr: (AT + i) * 4096,
    flags: 2,
    ref: FIRST_REF + i,
    domid: lender.domid,
  }));
  // Handles are given out again in turn, so that most of these are somebody's.
  const unmaps = Array.from({ length: 40 }, (_, i) => ({
    hostAddr: (AT + (i % 20)) * 4096,
    devBusAddr: 0,
    handle: 1 + Math.floor(i / 2),
  }));
  const copy = { sourceDomid: lender.domid, sourceFrame: FIRST_REF, sourceOffset: 0, destDomid: 0x7ff0, destFrame: 3 };
  const borrowing: Call[] = [
    { op: 'gnttab_unmap_grant_ref', ops: unmaps },
    ...maps.map(
      (map): Call => ({ op: 'gnttab_copy', ops: [{ ...copy, destOffset: 0, length: 8, flags: map.flags >> 1 }] }),
    ),
    { op: 'touch', frames: { start: WINDOW + 490, count: 20 } },
    { op: 'store', frames: { start: WINDOW, count: 8 }, tag: 3 },
  ];
  const target = victim === 'lender' ? lender : borrower;
  const wait: Call[] = Array.from({ length: delay }, () => ({ op: 'getdomaininfo', domid }));
  hypercall(bed, borrower, { op: 'gnttab_map_grant_ref', ops: maps.slice(0, 1) });
  const reports = await raceCalls(
    bed.h.shared,
    [
      { domid: 0, calls: [...wait, { op: 'destroydomain', domid: target.domid }] },
      { domid: lender.domid, calls: lending },
      { domid, calls: borrowing },
    ],
    1,
  );
  expect(reports.flatMap(({ violations }) => violations)).toEqual([]);
  expect(reports[0]?.answers['destroydomain 0']).toBe(1);
  expectSound(bed);
  for (const d of [lender, borrower]) {
    if (d !== target) expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
  }
  // Whoever died first may have been kept by what the other still held.
  expect([lender.exists, borrower.exists]).toEqual([false, false]);
  expectSound(bed);
}

describe('death while memory is shared and calls are under way', () => {
  for (const victim of ['lender', 'borrower'] as const) {
    it(`of the ${victim} loses no reference and leaves no page reachable`, async () => {
      for (const delay of [0, 100, 400, 1600]) await race(victim, delay);
    });
  }
});
