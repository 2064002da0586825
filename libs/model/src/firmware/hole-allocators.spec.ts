import { describe, expect, it } from 'vitest';
import { HoleAllocators } from './hole-allocators.ts';
import type { HvmInfo } from './memory-map-setup.ts';

function guest(budget: number, highMemPgend = 0) {
  const info: HvmInfo = {
    lowMemPgend: 0x10000,
    highMemPgend,
    memoryMap: [{ addr: 0x100000, size: 0xff00000, type: 1 }],
  };
  const moves: [number, number][] = [];
  let left = budget;
  const memory = { populatePage: () => left-- > 0, relocate: (from: number, to: number) => moves.push([from, to]) > 0 };
  return { info, moves, allocators: new HoleAllocators(info, memory) };
}

describe("hvmloader's allocators", () => {
  it('holes grow down from 0xFE000000 and are not populated', () => {
    const { allocators, moves } = guest(0);
    expect([allocators.holeAlloc(1), allocators.holeAlloc(3)]).toEqual([0xfdfff, 0xfdffc]);
    expect(moves).toEqual([]);
  });

  it('memory grows up, aligned to at least 16 bytes', () => {
    const { allocators } = guest(99);
    expect([allocators.memAlloc(10, 1), allocators.memAlloc(10, 1), allocators.memAlloc(1, 128)]).toEqual([
      0xfc100000, 0xfc100010, 0xfc100080,
    ]);
  });

  it('one refusal, and from then on the last page of RAM is moved instead', () => {
    const { allocators, moves, info } = guest(1);
    allocators.acpiAlloc(3 * 4096, 4096);
    expect(moves).toEqual([
      [0xffff, 0xfc002],
      [0xfffe, 0xfc003],
    ]);
    expect([info.lowMemPgend, allocators.acpiPages()]).toEqual([0xfffe, 3]);
    expect(info.memoryMap[0]?.size).toBe(0xfffe000 - 0x100000);
  });

  it('high memory is used up first, and is gone when it reaches 4 GiB', () => {
    const { allocators, moves, info } = guest(0, 0x100001);
    allocators.populate(0xfc000, 2);
    expect(moves.map(([from]) => from)).toEqual([0x100000, 0xffff]);
    expect(info.highMemPgend).toBe(0);
  });

  it('the two directions must not meet', () => {
    const { allocators } = guest(0);
    expect(() => allocators.holeAlloc(0x1f01)).toThrow('*** HVMLoader bug at util.c:385');
  });
});
