import { describe, expect, it } from 'vitest';
import { adjustMemoryMap } from './adjust-memory-map.ts';
import type { HvmInfo } from './memory-map-setup.ts';

describe('keeping the memory map in step', () => {
  it('cuts low RAM, and adds an entry above 4 GiB when there was none', () => {
    const info: HvmInfo = {
      lowMemPgend: 0xe0000,
      highMemPgend: 0x110000,
      memoryMap: [{ addr: 0x100000, size: 0xeff00000, type: 1 }],
    };
    adjustMemoryMap(info);
    expect(info.memoryMap).toEqual([
      { addr: 0x100000, size: 0xdff00000, type: 1 },
      { addr: 0x100000000, size: 0x10000000, type: 1 },
    ]);
  });

  it('leaves an old high entry as it is once high memory has become nothing', () => {
    const info: HvmInfo = {
      lowMemPgend: 0x10000,
      highMemPgend: 0,
      memoryMap: [{ addr: 0x100000000, size: 0x1000, type: 1 }],
    };
    adjustMemoryMap(info);
    expect(info.memoryMap).toEqual([{ addr: 0x100000000, size: 0x1000, type: 1 }]);
  });
});
