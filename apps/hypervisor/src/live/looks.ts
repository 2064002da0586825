// What the host is made of, and one frame of it, for a person. Read from the host's description and its live tables, without a lock.
import { INVALID_MFN, type Mfn } from '#model/frames/addresses';
import { frameFlag } from '#model/frames/frame-table';
import type { Host } from '#model/host';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mTypeName } from '#model/p2m/types';
import type { FrameLook, Machine } from '#wire/hv-messages';

export function machineOf({ config }: Host): Machine {
  return {
    name: config.name,
    frames: config.frames,
    pcpus: config.pcpus,
    heap: config.heapRanges.map(({ start, end }) => ({ start, end })),
    memoryMap: config.memoryMap.map(({ addr, size, type }) => ({ addr, size, type })),
    units: config.units.map(({ id, superpage2m, superpage1g }) => ({
      id,
      superpages: superpage1g ? '4K, 2M, 1G' : superpage2m ? '4K, 2M' : '4K',
    })),
    devices: config.devices.map(({ sbdf, name, unit, bars }) => ({
      sbdf,
      name,
      unit,
      bars: bars.map(({ index, size, hostAddr }) => ({ index: String(index), size, hostAddr })),
    })),
    rmrrs: config.rmrrs.map(({ startPfn, endPfn, devices }) => ({
      start: startPfn,
      end: endPfn + 1,
      devices: [...devices],
    })),
    policies: { ...config.policies },
  };
}

function stateOf(h: Host, m: Mfn): string {
  const { frames } = h;
  if (frames.has(m, frameFlag.firmware)) return 'reserved by firmware';
  if (frames.has(m, frameFlag.notRam)) return 'device memory';
  if (frames.has(m, frameFlag.table)) return 'page table';
  if ((frames.count[m] as number) <= 0) {
    return h.config.heapRanges.some(({ start, end }) => m >= start && m < end) ? 'free' : "not the heap's";
  }
  if (frames.has(m, frameFlag.podCache)) return 'PoD cache';
  if (frames.has(m, frameFlag.special)) return "Xen's, shown to its domain";
  return (frames.count[m] as number) > 1 ? 'RAM, shared' : 'RAM';
}

/** null: the frame table does not reach there. */
export function frameLook(h: Host, mfn: number): Omit<FrameLook, 'changes'> | null {
  const m = mfn as Mfn;
  if (mfn >= h.config.frames || !h.frames.valid(m)) return null;
  const owner = h.frames.ownerOf(m);
  const gfn = h.frames.gfnOf(m);
  const leaf = new Leaf();
  const d = owner < 0 ? null : h.domain(owner);
  if (d?.isTranslated && gfn >= 0) peekEntry(h, d, gfn, leaf);
  const mapped = leaf.mfn !== INVALID_MFN;
  return {
    mfn,
    owner,
    gfn,
    references: h.frames.count[m] as number,
    tag: h.frames.tag[m] as number,
    state: stateOf(h, m),
    p2mType: mapped ? p2mTypeName(leaf.type) : '',
    order: mapped ? leaf.order : 0,
  };
}
