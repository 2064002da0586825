// The questions that one thread can answer: write-protection for write-back, what emulation and PV guests get, and the same memory
// without Xen.
import { gntst } from '#model/grant/status';
import { migratePage } from '#model/guest/mm/migration';
import { mmapPages } from '#model/guest/mm/unmap';
import { runCall } from '#model/hypercall/dispatch';
import { LEND_readonly } from '#model/hypercall/lend-op';
import { hypercall } from '../../libs/model/test-support/hypercall-fixture.ts';
import { Kernel } from '../../libs/model/test-support/mm-fixture.ts';
import type { Cost, Meter } from './meter.ts';
import { LENDER, Stage, VCPUS, WINDOW } from './stage.ts';
import { errnoText } from './ways.ts';

const FILE = 32;

export interface WriteBack {
  readonly protect: boolean;
  readonly writes: number;
  readonly writeFaults: number;
  /** Pages of the file that do not hold what the guest wrote last. */
  readonly lost: number;
}

/**
 * A file of 32 pages shown to a guest, which writes some of them between two write-backs. The lender writes back what it knows to be
 * dirty: with `protect`, pages whose first write faulted; without, it hears of no write.
 */
export function writeBack(protect: boolean): WriteBack {
  const stage = new Stage();
  const { bed, borrower } = stage;
  const file = new Array<number>(FILE).fill(0);
  const wrote = new Array<number>(FILE).fill(0);
  const dirty = new Set<number>();
  let writes = 0;
  let writeFaults = 0;
  stage.lend(0, 0, FILE, protect ? LEND_readonly : 0);
  for (let round = 1; round <= 50; round++) {
    for (let i = 0; i < 5; i++) {
      const page = (round * 7 + i * 11) % FILE;
      const tag = round * 100 + i;
      const call = { op: 'store', frames: { start: WINDOW[0] + page, count: 1 }, tag } as const;
      const caller = { domain: borrower, vcpu: 0, preempt: () => false };
      for (let outcome = runCall(bed.h, caller, call, null); outcome.end === 'blocked'; ) {
        const { faults = [] } = hypercall(bed, stage.lender, { op: 'lend_faults', wait: false });
        for (const { gfn, write } of faults) {
          writeFaults += write ? 1 : 0;
          dirty.add(gfn - WINDOW[0]);
          stage.lend(0, gfn - WINDOW[0], 1);
        }
        outcome = runCall(bed.h, caller, call, outcome.state);
      }
      wrote[page] = tag;
      writes++;
    }
    // Write-back: a dirty page may not change while it is copied; it is clean afterwards.
    for (const page of dirty) {
      stage.revoke(0, page, 1, true);
      const { tags = [] } = hypercall(bed, stage.lender, { op: 'load', frames: { start: LENDER[0] + page, count: 1 } });
      file[page] = tags[0] ?? 0;
    }
    dirty.clear();
  }
  const lost = file.filter((tag, page) => tag !== wrote[page]).length;
  return { protect, writes, writeFaults, lost };
}

export interface Emulation {
  readonly what: string;
  readonly result: string;
}

/** What depends on lent memory without being able to fault, and who cannot borrow at all. */
export function emulation(): Emulation[] {
  const stage = new Stage();
  const { bed, lender, borrower } = stage;
  const { domid } = borrower;
  stage.lend(0, 0, 4);
  const DOMID_SELF = 0x7ff0;
  const gfn = WINDOW[0];
  const pages = { idxs: { start: gfn, count: 1 }, gpfns: { start: 0x30_000, count: 1 } };
  const map = { op: 'add_to_physmap_batch', domid: 0, space: 4, foreignDomid: domid, ...pages } as const;
  const foreign = hypercall(bed, lender, map).errs?.[0] ?? 0;
  const side = {
    sourceDomid: DOMID_SELF,
    sourceFrame: gfn,
    sourceOffset: 0,
    destDomid: DOMID_SELF,
    destFrame: 0x100,
    destOffset: 0,
  };
  const copy = hypercall(bed, borrower, { op: 'gnttab_copy', ops: [{ ...side, length: 8, flags: 0 }] }).statuses?.[0];
  const extents = { start: gfn, count: 1 };
  const decrease = hypercall(bed, borrower, { op: 'decrease_reservation', domid, order: 0, extents }).rc;
  const caller = { domain: borrower, vcpu: 0, preempt: () => false };
  const access = runCall(bed.h, caller, { op: 'touch', frames: { start: gfn + 8, count: 1 } }, null);
  const kind = { name: 'pv', hvm: false, hap: false, iommu: false, noSharept: false, deviceModel: false, vcpus: 1 };
  const pv = hypercall(bed, lender, { op: 'createdomain', domid: 0, ...kind });
  const window = { first: gfn, count: 4, order: 0, onFailure: 0 };
  const opened = hypercall(bed, lender, { op: 'lend_open', domid: pv.domid ?? -1, ...window }).rc;
  return [
    {
      what: 'QEMU maps a lent page of its guest (foreign map), as it does to emulate an access',
      result: errnoText(foreign),
    },
    {
      what: 'a hypercall of the borrower reads a lent page (`gnttab_copy`)',
      result: `GNTST ${copy}${copy === gntst.badPage ? ' (bad_page)' : ''}`,
    },
    { what: 'the borrower balloons a lent page out', result: `${decrease} of 1` },
    {
      what: 'an instruction of the borrower touches a page that is not lent now',
      result: access.end === 'blocked' ? 'its vCPU waits for the lender' : access.end,
    },
    { what: 'a PV guest is to borrow', result: errnoText(opened) },
  ];
}

export interface WithoutXen {
  readonly fault: Cost;
  readonly invalidate: Cost;
  readonly faults: number;
  readonly lender: { readonly fault: Cost; readonly revoke: Cost };
}

/** KVM’s way beside lending: what one fault and one invalidation cost, both with the same kernel’s memory management behind them. */
export function withoutXen(meter: Meter): WithoutXen {
  const pages = 64;
  const gfn = 0x1000;
  const slot = { gfn, page: 0, count: pages };
  const kvmConfig = { machine: 0, slot, vcpus: VCPUS, snapshot: '64', retryCheck: 'under-lock' } as const;
  const kernel = new Kernel({ machines: 1, pages, frames: { ram: 2 * pages, vram: 0, slot: 0 } }, null, kvmConfig);
  const { mm, kvm } = kernel;
  mmapPages(mm, { kind: 'ram', start: 0, end: pages, writable: true });
  // Of two touches the first takes the fault in the kernel too; what a fault of the guest adds is the second's.
  for (let i = 0; i < pages; i++) kvm.access(0, gfn + i, true, i + 1);
  const invalidate = meter.measure(() => {
    for (let i = 0; i < pages; i++) migratePage(mm, i, 'ram');
  });
  const before = kvm.faults;
  const fault = meter.measure(() => {
    for (let i = 0; i < pages; i++) kvm.access(0, gfn + i, true, i + 1);
  });
  if (kernel.violated.length > 0) throw new Error(`violated: ${kernel.violated.join(', ')}`);
  const stage = new Stage();
  stage.lend(0, 0, pages);
  const revoke = meter.measure(() => {
    for (let i = 0; i < pages; i++) stage.revoke(0, i, 1);
  });
  const { bed, borrower } = stage;
  const caller = { domain: borrower, vcpu: 0, preempt: () => false };
  const lent = meter.measure(() => {
    for (let i = 0; i < pages; i++) {
      const call = { op: 'touch', frames: { start: WINDOW[0] + i, count: 1 } } as const;
      const outcome = runCall(bed.h, caller, call, null);
      hypercall(bed, stage.lender, { op: 'lend_faults', wait: false });
      stage.lend(0, i, 1);
      if (outcome.end === 'blocked') runCall(bed.h, caller, call, outcome.state);
    }
  });
  const each = ({ steps, virtualNs, wallNs }: Cost): Cost => ({
    steps: steps / pages,
    virtualNs: virtualNs / pages,
    wallNs: wallNs / pages,
  });
  return {
    fault: each(fault),
    invalidate: each(invalidate),
    faults: kvm.faults - before,
    lender: { fault: each(lent), revoke: each(revoke) },
  };
}
