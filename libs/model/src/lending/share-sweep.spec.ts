import { beforeAll, describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest } from '../../test-support/hypercall-fixture.ts';
import { type Call, physmapSpace } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { installSeam, stepKind } from '../shared-memory/step.ts';

/** The steps that may fail, each with its error; nothing else can on real hardware either. */
const errorOf = new Map<number, number>([
  [stepKind.ptAlloc, errno.ENOMEM],
  [stepKind.frameAlloc, errno.ENOMEM],
  [stepKind.p2mWrite, errno.ENOMEM],
  [stepKind.refTake, errno.EINVAL],
]);
let armed = false;
let seen = 0;
let failAt = -1;

beforeAll(() => {
  installSeam({
    step: (kind) => {
      const error = armed ? errorOf.get(kind) : undefined;
      return error !== undefined && seen++ === failAt ? error : 0;
    },
  });
});

interface Line {
  readonly from: 'dom0' | 'guest';
  readonly call: Call;
}

const WINDOW = 0x81f8;

/** Memory of dom0's that the guest uses: granted and mapped, copied, lent and revoked. */
function script(domid: number): Line[] {
  const trans = { transDomid: 0, transRef: 0 };
  const entry = {
    op: 'grant_entry_set',
    gfn: 0x200,
    version: 1,
    flags: 1,
    domid,
    start: 0,
    length: 0,
    ...trans,
  } as const;
  const maps = [0, 1].map((i) => ({ hostAddr: (0x4000 + 600 * i) * 4096, flags: 2, ref: 8 + i, domid: 0 }));
  const copy = { sourceDomid: 0, sourceFrame: 8, sourceOffset: 0, destDomid: 0x7ff0, destFrame: 1025, destOffset: 0 };
  const table = { domid: 0, space: physmapSpace.grantTable, size: 0 };
  const ram = { memFlags: 0, op: 'populate_physmap' } as const;
  const lend = { op: 'lend', domid, flags: 0, sequence: 0 } as const;
  const unmaps = [1, 2].map((handle) => ({ hostAddr: (0x4000 + 600 * (handle - 1)) * 4096, devBusAddr: 0, handle }));
  const dom0 = (call: Call): Line => ({ from: 'dom0', call });
  const guest = (call: Call): Line => ({ from: 'guest', call });
  return [
    dom0({ ...ram, domid, order: 9, extents: { start: 1024, count: 1 } }),
    dom0({ ...ram, domid: 0, order: 0, extents: { start: 0x80, count: 8 } }),
    dom0({ op: 'add_to_physmap', ...table, idx: 1, gpfn: 0x201 }),
    dom0({ op: 'add_to_physmap', ...table, idx: 0, gpfn: 0x200 }),
    dom0({ ...entry, index: 8, frame: 0x80 }),
    dom0({ ...entry, index: 9, frame: 0x81 }),
    guest({ op: 'gnttab_map_grant_ref', ops: maps }),
    guest({ op: 'store', frames: { frames: [0x4000] }, tag: 9 }),
    guest({ op: 'gnttab_copy', ops: [{ ...copy, length: 8, flags: 1 }] }),
    guest({ op: 'gnttab_unmap_grant_ref', ops: unmaps }),
    dom0({ op: 'lend_open', domid, first: WINDOW, count: 16, order: 0, onFailure: 0 }),
    dom0({ ...lend, first: WINDOW + 6, gfns: { start: 0x80, count: 4 } }),
    dom0({ op: 'lend_fail', domid, gfn: WINDOW }),
    dom0({ op: 'revoke', domid, first: WINDOW, count: 8, writeProtect: false }),
    dom0({ op: 'lend_close', domid, first: WINDOW }),
    dom0({ op: 'lend_open', domid, first: WINDOW, count: 16, order: 0, onFailure: 0 }),
    dom0({ ...lend, first: WINDOW, gfns: { start: 0x84, count: 4 } }),
    dom0({ op: 'gnttab_set_version', version: 2 }),
    dom0({ op: 'gnttab_set_version', version: 1 }),
    guest({ op: 'gnttab_map_grant_ref', ops: maps }),
  ];
}

/** Plays it with the n-th fallible step failing. Answers the steps seen. */
function play(n: number): number {
  const bed = bootTestbed({ frames: 8192, grantFrames: 2, maptrackFrames: 1 });
  const d = makeGuest(bed, { iommu: false, maxPages: 4096, poolPages: 300 });
  seen = 0;
  failAt = n;
  armed = true;
  for (const { from, call } of script(d.domid)) {
    if (from === 'guest' && d.crashed) continue;
    const { rc } = hypercall(bed, from === 'guest' ? d : bed.dom0, call as never); // each line is a whole call
    // A revocation succeeds, or its window was never opened.
    if (call.op === 'revoke' && rc !== 0 && rc !== -errno.ESRCH) throw new Error(`revoke answers ${rc}`);
  }
  armed = false;
  const steps = seen;
  expectSound(bed);
  expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
  expectSound(bed);
  expect([d.exists, bed.log.violations]).toEqual([false, []]);
  return steps;
}

describe('sharing memory while things fail', () => {
  it('whatever step fails, the host stays sound, the domain can be destroyed, and revoking does not fail', () => {
    const steps = play(-1);
    expect(steps).toBeGreaterThan(60);
    const broken: string[] = [];
    for (let n = 0; n < steps; n++) {
      try {
        play(n);
      } catch (error) {
        broken.push(`step ${n}: ${error instanceof Error ? error.message : error}`);
      }
    }
    expect(broken.slice(0, 5)).toEqual([]);
  });
});
