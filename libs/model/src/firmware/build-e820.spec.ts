import { describe, expect, it } from 'vitest';
import { buildE820, dumpE820, type E820Request } from './build-e820.ts';
import type { HvmInfo } from './memory-map-setup.ts';

const info: HvmInfo = {
  lowMemPgend: 0xf0000,
  highMemPgend: 0x110000,
  memoryMap: [
    { addr: 0x100000, size: 0xeff00000, type: 1 },
    { addr: 0x100000000, size: 0x10000000, type: 1 },
  ],
};
const request: E820Request = {
  acpiEnabled: true,
  acpiPages: 18,
  igdOpregionPfn: 0,
  lowmemReservedBase: 0,
  biosImageBase: 0xe0000,
};

describe('the E820 of an HVM guest', () => {
  it('is sorted, keeps ACPI pages as NVS and leaves the MMIO hole out', () => {
    const table = buildE820(info, request);
    expect(table.map((e) => [e.addr, e.type])).toEqual([
      [0, 1],
      [0xe0000, 2],
      [0x100000, 1],
      [0xfc000000, 4],
      [0xfc013000, 2],
      [0x100000000, 1],
    ]);
  });

  it('splits the reserved area around an OpRegion', () => {
    const table = buildE820(info, { ...request, igdOpregionPfn: 0xfdffc });
    expect(table).toContainEqual({ addr: 0xfdffc000, size: 0x3000, type: 4 });
  });

  it('refuses too little conventional or low memory', () => {
    expect(() => buildE820(info, { ...request, lowmemReservedBase: 0x80000 })).toThrow('assertion');
    expect(() => buildE820({ ...info, lowMemPgend: 0x1ff }, request)).toThrow('*** HVMLoader bug at e820.c:264');
  });

  it('the dump shows holes and overlaps', () => {
    const lines = dumpE820([
      { addr: 0, size: 0xa0000, type: 1 },
      { addr: 0xe0000, size: 0x20000, type: 2 },
      { addr: 0xf0000, size: 0x10000, type: 5 },
    ]);
    expect(lines).toEqual([
      'E820 table:',
      ' [00]: 00000000:00000000 - 00000000:000a0000: RAM',
      ' HOLE: 00000000:000a0000 - 00000000:000e0000',
      ' [01]: 00000000:000e0000 - 00000000:00100000: RESERVED',
      ' OVERLAP!!',
      ' [02]: 00000000:000f0000 - 00000000:00100000: UNKNOWN (00000005)',
    ]);
  });
});
