import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { testGpu } from '../../test-support/gpu-fixture.ts';
import { FrameMap } from './frame-map.ts';
import { apertureGma, owns, type Partition, partition, pvinfo } from './graphics-memory.ts';

const sizes = fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 80 })), { maxLength: 6 });

describe('graphics memory', () => {
  it('is split so that no page belongs to two guests and mappable parts lie behind the aperture', () => {
    fc.assert(
      fc.property(sizes, (wanted) => {
        const parts: Partition[] = [];
        for (const [low, high] of wanted) {
          const part = partition(testGpu, low, high, parts);
          if (part === null) continue;
          expect([part.mappable.size, part.unmappable.size]).toEqual([low, high]);
          expect(part.mappable.base + low).toBeLessThanOrEqual(testGpu.aperturePages);
          expect(part.unmappable.base + high).toBeLessThanOrEqual(testGpu.gmPages);
          parts.push(part);
        }
        for (let page = 0; page < testGpu.gmPages; page++) {
          expect(parts.filter((p) => owns(p, page)).length).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it('refuses what does not fit, and sizes that are none', () => {
    const all = partition(testGpu, testGpu.aperturePages, 0, []);
    expect(all).toEqual({ mappable: { base: 0, size: 64 }, unmappable: { base: 64, size: 0 } });
    expect(partition(testGpu, 1, 0, all === null ? [] : [all])).toBeNull();
    for (const [low, high] of [
      [0, 0],
      [-1, 5],
      [1.5, 0],
      [65, 0],
      [0, 193],
    ] as const) {
      expect(partition(testGpu, low, high, [])).toBeNull();
    }
  });

  it('is found from the CPU as address less BAR, inside the guest’s own slice only', () => {
    const part = { mappable: { base: 16, size: 16 }, unmappable: { base: 100, size: 50 } };
    const at = (page: number): number => apertureGma(testGpu, part, testGpu.apertureBase + page * 4096 + 123);
    expect([at(15), at(16), at(31), at(32), at(100), at(-1)]).toEqual([-1, 16, 31, -1, -1, -1]);
  });

  it('is told to the guest in bytes, under the magic of the PVINFO page', () => {
    const { magic, mappable, unmappable } = pvinfo({
      mappable: { base: 16, size: 16 },
      unmappable: { base: 100, size: 50 },
    });
    expect((BigInt(magic.high) << 32n) | BigInt(magic.low)).toBe(0x4776544776544776n);
    expect([mappable, unmappable]).toEqual([
      { base: 0x10000, size: 0x10000 },
      { base: 0x64000, size: 0x32000 },
    ]);
  });
});

it('a frame map holds what was put into it, whatever came and went', () => {
  const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 60 })), { maxLength: 300 });
  fc.assert(
    fc.property(steps, (list) => {
      const map = new FrameMap(new Float64Array(new SharedArrayBuffer(FrameMap.doubles(64) * 8)), 64);
      const truth = new Map<string, number>();
      for (const [slot, gfn] of list) {
        const key = `${slot}/${gfn}`;
        if (truth.delete(key)) map.remove(slot, gfn);
        else if (!map.isFull) {
          map.add(slot, gfn, gfn + 1000);
          map.use(slot, gfn, 2);
          truth.set(key, gfn + 1000);
        }
        expect(map.busOf(slot, gfn)).toBe(truth.get(key) ?? -1);
      }
      const found = [...map.frames()].map((f): [string, number] => [`${f.slot}/${f.gfn}`, f.bus]);
      expect(new Map(found)).toEqual(truth);
      expect(map.size).toBe(truth.size);
    }),
  );
});
