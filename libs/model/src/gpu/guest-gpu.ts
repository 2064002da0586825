// A guest's graphics driver, as far as its memory is concerned: it writes entries of its tables as any kernel writes its memory,
// those of the global table by MMIO, and tells of roots, jobs and invalidations through PVINFO. Whether a write traps it cannot
// know. Runs on a vCPU's thread; all it does goes through p2m, hypercalls and the request page.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import type { Hypercalls } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { AccessOutcome, accessResult, guestAccess } from '../p2m/guest-access.ts';
import { p2mType } from '../p2m/types.ts';
import type { GpuState } from './gpu-memory.ts';
import { notifyCode } from './graphics-memory.ts';
import { entryIndex, makePte, PTE_PRESENT, PTE_WRITE } from './pte.ts';
import { ask, requestKind } from './requests.ts';

/** Retries of an access whose server went away meanwhile. */
const ATTEMPTS = 64;
const LEVELS = 4;

export class GuestGpu {
  private readonly h: Host;
  private readonly d: Domain;
  private readonly gpu: GpuState;
  private readonly serve: (() => void) | null;
  private readonly out = new AccessOutcome();

  /** `serve`: the mediator, where it runs on this very thread; null: it has its own. */
  constructor(h: Host, d: Domain, gpu: GpuState, serve: (() => void) | null) {
    this.h = h;
    this.d = d;
    this.gpu = gpu;
    this.serve = serve;
  }

  private ask(kind: number, a = 0, b = 0, c = 0): number {
    return ask(this.h, this.gpu, { slot: this.d.slot, kind, a, b, c }, this.serve);
  }

  /** A vCPU stores one entry into its page `gfn`. 0; -EFAULT: no memory there; -ENOMEM: the model cannot keep the page's contents. */
  storePte(gfn: number, index: number, pte: number): number {
    const { h, d, out } = this;
    let kept = true;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      out.effect = (m) => {
        kept = h.gpus.contents.write(m, index, pte);
      };
      const result = guestAccess(h, d, gfn, 0, out);
      out.effect = null;
      if (result === accessResult.ok) return kept ? 0 : -errno.ENOMEM;
      if (result !== accessResult.emulated || out.type !== p2mType.ioreqServer) return -errno.EFAULT;
      // Xen sends an ioreq to the server that has claimed the page; without one the instruction runs again.
      if (this.ask(requestKind.pteWrite, gfn, index, pte) === 0) return 0;
    }
    return -errno.EFAULT;
  }

  /** Writes the entries of the global table one by one: each is an MMIO access that traps. */
  writeGlobal(page: number, gfn: number): number {
    return this.ask(requestKind.globalWrite, page, makePte(gfn, PTE_PRESENT | PTE_WRITE));
  }

  createRoot(context: number, gfn: number): number {
    return this.ask(requestKind.notify, notifyCode.l4Create, context, gfn);
  }

  destroyRoot(context: number): number {
    return this.ask(requestKind.notify, notifyCode.l4Destroy, context);
  }

  submit(context: number): number {
    return this.ask(requestKind.submit, context);
  }

  invalidateTlb(): number {
    return this.ask(requestKind.tlbInvalidate);
  }

  /**
   * A page table of four levels over `tables` (the root first, then one page per further table), mapping `gfns` from page 0 of
   * graphics memory on. 0 or the first error. The root is not announced.
   */
  buildTable(tables: readonly number[], gfns: readonly number[]): number {
    const [root, ...spare] = tables;
    if (root === undefined) return -errno.EINVAL;
    const made = new Map<string, number>([[`${LEVELS}:0`, root]]);
    for (const [page, gfn] of gfns.entries()) {
      let table = root;
      for (let level = LEVELS; level > 1; level--) {
        const key = `${level - 1}:${Math.floor(page / 512 ** (level - 1))}`;
        let child = made.get(key);
        if (child === undefined) {
          child = spare.shift();
          if (child === undefined) return -errno.ENOMEM;
          made.set(key, child);
          const rc = this.storePte(table, entryIndex(page, level), makePte(child, PTE_PRESENT | PTE_WRITE));
          if (rc !== 0) return rc;
        }
        table = child;
      }
      const rc = this.storePte(table, entryIndex(page, 1), makePte(gfn, PTE_PRESENT | PTE_WRITE));
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /**
   * Gives pages back to Xen. After a guest's own decrease_reservation Xen sends INVALIDATE to its servers before the vCPU goes on
   * (send_invalidate_req): the pages are free by then. Answers how many went.
   */
  balloonOut(port: Hypercalls, gfns: readonly number[]): number {
    const { rc } = port.call({
      op: 'decrease_reservation',
      domid: this.d.domid,
      order: 0,
      extents: { frames: gfns },
    });
    this.ask(requestKind.invalidate);
    return rc;
  }
}
