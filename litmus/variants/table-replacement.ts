// A leaf takes the place of a whole table, as before XSA-480: the CPU flush is only noted when the table goes back to the pool.
import type { World } from '#explore/world';
import { allocDomheap } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { makeLeaf, slotFrame, tableOffset } from '#model/p2m/entry';
import { p2mLock, p2mUnlock, syncDomain } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { freeSubtree } from '#model/p2m/set-entry';
import { isRam, p2mAccess, p2mType } from '#model/p2m/types';
import { load, store } from '#model/shared-memory/slots';
import { step, stepKind } from '#model/shared-memory/step';
import { SLOTS_PER_TABLE, type TableIndex } from '#model/shared-memory/table-pages';

/** populate_physmap of one superpage where a table of single pages is. */
export function populateSuperpageBefore480(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const { slots } = host.tables;
  const m = allocDomheap(host, d, 9) as Mfn;
  const leaf = new Leaf();
  p2mLock(host, d);
  for (let i = 0; i < 512; i++) {
    peekEntry(host, d, gfn + i, leaf);
    if (isRam(leaf.type)) host.frames.clearM2pBlock(leaf.mfn, 1);
    else i += 2 ** leaf.order - 1;
  }
  let table: number = d.r.p2mRoot;
  for (let level = 3; level > 1; level--) {
    table = slotFrame(load(slots, table * SLOTS_PER_TABLE + tableOffset(gfn, level)));
  }
  const index = table * SLOTS_PER_TABLE + tableOffset(gfn, 1);
  const old = load(slots, index);
  step(stepKind.ptWrite, index);
  store(slots, index, makeLeaf(m, 1, p2mType.ramRw, p2mAccess.rwx));
  syncDomain(host, d);
  freeSubtree(host, d, slotFrame(old) as TableIndex, 0);
  host.frames.setM2pBlock(m, gfn, 512);
  d.r.maxMappedPfn = Math.max(d.r.maxMappedPfn, gfn + 511);
  p2mUnlock(host, d);
}
