import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planLayout } from './build-layout.ts';
import { type BuilderHypercalls, type MeminitRequest, meminitHvm } from './meminit-hvm.ts';

interface Populated {
  order: number;
  flags: number;
  first: number;
  pages: number;
}

class Host implements BuilderHypercalls {
  readonly log: string[] = [];
  readonly populated: Populated[] = [];
  refuse4k = false;
  readonly #superpages: Map<number, number>;

  constructor(gigabytes = Number.POSITIVE_INFINITY, megabytes = Number.POSITIVE_INFINITY) {
    this.#superpages = new Map([
      [18, gigabytes],
      [9, megabytes],
    ]);
  }

  populate(order: number, flags: number, extents: number, firstPfn: number): number {
    const left = order === 0 ? (this.refuse4k ? 0 : extents) : (this.#superpages.get(order) ?? 0);
    const done = Math.min(extents, left);
    if (order !== 0) this.#superpages.set(order, left - done);
    this.log.push(`populate ${order} ${extents} 0x${firstPfn.toString(16)}`);
    this.populated.push({ order, flags, first: firstPfn, pages: done * 2 ** order });
    return done;
  }

  claim(pages: number): boolean {
    this.log.push(`claim ${pages}`);
    return true;
  }

  setPodTarget(pages: number): boolean {
    this.log.push(`pod ${pages}`);
    return true;
  }
}

function request(maxMib: number, targetMib = maxMib): MeminitRequest {
  const layout = planLayout({
    type: 'hvm',
    maxMemkb: maxMib * 1024,
    targetMemkb: targetMib * 1024,
    videoMemkb: 8192,
    mmioHoleMemkb: 0,
  });
  return { ...layout, claimEnabled: true, memflags: 0, vmemranges: [], vnodeToPnode: [] };
}

describe('populating an HVM guest', () => {
  it('claims, then 640 KiB, then around the VGA hole, then 8 MiB at a time, and gives the claim back', () => {
    const host = new Host();
    meminitHvm(request(64), host);
    expect(host.log.slice(0, 4)).toEqual([
      'claim 14304',
      'populate 0 160 0x0',
      'populate 0 320 0xc0',
      'populate 9 4 0x200',
    ]);
    expect(host.log.at(-1)).toBe('claim 0');
  });

  it('sets the PoD target before anything is populated, and asks for PoD entries', () => {
    const host = new Host();
    meminitHvm(request(64, 32), host);
    expect(host.log.indexOf('pod 6112')).toBeLessThan(host.log.findIndex((line) => line.startsWith('populate')));
    expect(host.populated.every((p) => p.flags === 0x10000)).toBe(true);
  });

  it('uses 1 GiB pages above 4 GiB and never over the MMIO hole', () => {
    const host = new Host();
    meminitHvm(request(8192), host);
    const gigabytes = host.populated.filter((p) => p.order === 18).map((p) => p.first);
    expect(gigabytes).toContain(0x100000);
    expect(gigabytes).not.toContain(0xc0000);
  });

  it('populates every page of RAM but the VGA hole exactly once, whatever superpages the host has', () => {
    const left = fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 0, max: 600 }));
    fc.assert(
      fc.property(fc.integer({ min: 16, max: 6000 }), left, left, (mib, gigabytes, megabytes) => {
        const host = new Host(gigabytes, megabytes);
        const r = request(mib);
        const result = meminitHvm(r, host);
        expect(result.ok).toBe(true);
        const extents = host.populated.filter((p) => p.pages > 0).sort((a, b) => a.first - b.first);
        let next = 0;
        for (const { first, pages } of extents) {
          if (next === 0xa0) next = 0xc0;
          if (next === r.lowmemEnd / 4096 && r.highmemEnd > 0) next = 0x100000;
          expect(first).toBe(next);
          next += pages;
        }
        expect(next).toBe(Math.max(r.lowmemEnd, r.highmemEnd) / 4096);
      }),
      { numRuns: 40 },
    );
  });

  it('a short 4 KiB call fails the build, and the claim is given back', () => {
    const host = new Host();
    host.refuse4k = true;
    expect(meminitHvm(request(64), host)).toMatchObject({
      ok: false,
      message: 'Could not populate low memory (< 0xA0).',
    });
    expect(host.log.at(-1)).toBe('claim 0');
  });
});
