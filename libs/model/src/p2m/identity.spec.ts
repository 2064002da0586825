import { describe, expect, it } from 'vitest';
import { bootWithDom0, GPU, ioDomain, ownFrames, policies } from '../../test-support/iommu-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { assignDevice } from '../iommu/assign.ts';
import { DmaThread } from '../iommu/dma.ts';
import { p2mAddIdentityEntry, p2mRemoveIdentityEntry } from './identity.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { guestPhysmapAddPage } from './physmap.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

const RESERVED = 0x3f00;
const { rw } = p2mAccess;

function at(h: Host, d: Domain, g: number): { type: number; mfn: number } {
  const leaf = new Leaf();
  peekEntry(h, d, g, leaf);
  return { type: leaf.type, mfn: leaf.mfn };
}

describe.each(['separate', 'shared'] as const)('an identity entry, with %s tables', (iommuTables) => {
  const setup = () => {
    const { h, log } = bootWithDom0({
      policies: policies({ iommuTables }),
      heapRanges: [{ start: 0x10, end: 0x3e00 }],
    });
    const d = ioDomain(h, 15);
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    log.lines.length = 0;
    const dma = new DmaThread(h, 0);
    return { h, d, log, reached: () => dma.transaction(GPU, RESERVED, 'w', 1) };
  };
  const occupied: [string, (h: Host, d: Domain) => void, string][] = [
    [
      'RAM',
      (h, d) => {
        ownFrames(h, d, 0x1bf, 1);
        guestPhysmapAddPage(h, d, RESERVED, 0x1bf as Mfn, 0);
      },
      '1bf',
    ],
    [
      'populate-on-demand',
      (h, d) => {
        p2mLock(h, d);
        p2mSetEntry(h, d, RESERVED, INVALID_MFN, 0, p2mType.populateOnDemand, p2mAccess.rwx);
        p2mUnlock(h, d);
      },
      'ffffffffffffffff',
    ],
    [
      'another device frame',
      (h, d) => {
        p2mLock(h, d);
        p2mSetEntry(h, d, RESERVED, 0x3f55 as Mfn, 0, p2mType.mmioDirect, rw);
        p2mUnlock(h, d);
      },
      '3f55',
    ],
    [
      'itself with other rights',
      (h, d) => {
        p2mLock(h, d);
        p2mSetEntry(h, d, RESERVED, RESERVED as Mfn, 0, p2mType.mmioDirect, p2mAccess.r);
        p2mUnlock(h, d);
      },
      '3f00',
    ],
  ];

  it('is made where nothing is, is left where it stands already, and goes again', () => {
    const { h, d, log, reached } = setup();
    expect(reached()).toBe(5);
    for (let i = 0; i < 2; i++) {
      expect(p2mAddIdentityEntry(h, d, RESERVED, rw, 0)).toBe(0);
      expect(at(h, d, RESERVED)).toEqual({ type: p2mType.mmioDirect, mfn: RESERVED });
    }
    expect(reached()).toBe(0);
    for (let i = 0; i < 2; i++) expect(p2mRemoveIdentityEntry(h, d, RESERVED)).toBe(0);
    expect([at(h, d, RESERVED).type, reached()]).toEqual([p2mType.mmioDm, 5]);
    expect(log.lines).toEqual([]);
  });

  it.each(occupied)(
    'over %s is refused (-EBUSY), or leaves it alone if relaxed, and is not removed either',
    (_, fill, mfn) => {
      const { h, d, log } = setup();
      fill(h, d);
      const before = at(h, d, RESERVED);
      const text = `Cannot setup identity map d15:3f00, gfn already mapped to ${mfn}.`;
      expect(p2mAddIdentityEntry(h, d, RESERVED, rw, 0)).toBe(-errno.EBUSY);
      expect(p2mAddIdentityEntry(h, d, RESERVED, rw, DEV_RDM_RELAXED)).toBe(0);
      expect(log.lines).toEqual([text, text]);
      expect(at(h, d, RESERVED)).toEqual(before);
      if (mfn === '3f00') return;
      expect(p2mRemoveIdentityEntry(h, d, RESERVED)).toBe(0);
      expect(at(h, d, RESERVED)).toEqual(before);
      expect(log.lines.at(-1)).toMatch(/^non-identity map d15:3f00 not cleared/);
    },
  );
});
