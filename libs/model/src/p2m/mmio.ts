// Direct MMIO: a device's BARs in a guest's p2m. A call does at most 64 pieces of work and says how far it came; the caller
// loops (p2m fact sheet 10). Never 1G leaves.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { touchesMmioRo } from './memory-type.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { setTypedEntry } from './physmap.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

/** Pieces (4K or 2M) a single call does before it returns to its caller. */
const MAX_ITERATIONS = 64;

const hex = (n: number): string => n.toString(16).padStart(8, '0');

function pieceOrder(h: Host, d: Domain, g: number, m: number, left: number): Order {
  const fits = d.has('hap') && h.config.ept.superpage2m && g % 512 === 0 && m % 512 === 0 && left >= 512;
  return fits && !touchesMmioRo(h, m, 9) ? 9 : 0;
}

/** 0 = all mapped; >0 = frames done so far; <0 = nothing was done. An error after progress shows as a short count. */
export function mapMmioRegions(h: Host, d: Domain, g: number, nr: number, m: number): number {
  if (!d.isTranslated) return 0;
  let done = 0;
  for (let i = 0; done < nr && i < MAX_ITERATIONS; i++) {
    let order = pieceOrder(h, d, g + done, m + done, nr - done);
    let rc = setTypedEntry(h, d, g + done, (m + done) as Mfn, order, p2mType.mmioDirect, p2mAccess.rwx);
    if (rc > 0) {
      // a smaller leaf is in the way
      order = 0;
      rc = setTypedEntry(h, d, g + done, (m + done) as Mfn, 0, p2mType.mmioDirect, p2mAccess.rwx);
    }
    if (rc !== 0) return done > 0 ? done : rc;
    done += 2 ** order;
  }
  return done === nr ? 0 : done;
}

/** Symmetric. Clearing a gfn that is not mmio_direct is -EINVAL; a wrong mfn is warned of and cleared all the same. */
export function unmapMmioRegions(h: Host, d: Domain, g: number, nr: number, m: number): number {
  if (!d.isTranslated) return 0;
  let done = 0;
  for (let i = 0; done < nr && i < MAX_ITERATIONS; i++) {
    const pages = clearMmio(h, d, g + done, m + done, nr - done);
    if (pages < 0) return done > 0 ? done : pages;
    done += pages;
  }
  return done === nr ? 0 : done;
}

/** Pages cleared, or -errno. */
function clearMmio(h: Host, d: Domain, g: number, m: number, left: number): number {
  const leaf = new Leaf();
  p2mLock(h, d);
  try {
    peekEntry(h, d, g, leaf);
    if (leaf.type !== p2mType.mmioDirect) return -errno.EINVAL;
    if (leaf.mfn !== m) {
      h.platform.printk(`no mapping between mfn ${hex(m)} and gfn ${hex(g)}`);
    }
    const order = leaf.order === 9 && pieceOrder(h, d, g, leaf.mfn, left) === 9 ? 9 : 0;
    const rc = p2mSetEntry(h, d, g, INVALID_MFN, order, p2mType.invalid, p2mAccess.rwx);
    return rc !== 0 ? rc : 2 ** order;
  } finally {
    p2mUnlock(h, d);
  }
}
