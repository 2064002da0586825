import { describe, expect, it } from 'vitest';
import { mmioHoleSizeKey, planLayout } from './build-layout.ts';

const gib4 = { type: 'hvm', maxMemkb: 4194304, targetMemkb: 4194304, videoMemkb: 8192, mmioHoleMemkb: 0 } as const;

describe('the layout of guest RAM', () => {
  it('a 4 GiB guest spills over the default hole', () => {
    expect(planLayout(gib4)).toMatchObject({ lowmemEnd: 0xf0000000, highmemEnd: 0x10f800000, mmioSize: 0x10000000 });
  });

  it('a hole of 2 GiB moves RAM above 4 GiB and is told to the firmware', () => {
    expect(planLayout({ ...gib4, mmioHoleMemkb: 2097152 })).toMatchObject({
      lowmemEnd: 0x80000000,
      highmemEnd: 0x17f800000,
    });
    expect(mmioHoleSizeKey(2097152)).toBe('2147483648');
    expect(mmioHoleSizeKey(0)).toBeNull();
  });

  it('a target below the maximum is what makes a guest populate on demand', () => {
    const pod = planLayout({ ...gib4, targetMemkb: 2097152 });
    expect(pod.targetPages).toBeLessThan(pod.totalPages);
  });

  it('PVH needs only 64 MiB of hole and has no VGA hole', () => {
    expect(planLayout({ ...gib4, type: 'pvh', videoMemkb: 0 })).toMatchObject({ mmioSize: 0x4000000, vgaHolePages: 0 });
  });
});
