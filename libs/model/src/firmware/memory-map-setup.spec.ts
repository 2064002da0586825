import { describe, expect, it } from 'vitest';
import { FirmwareCrash, memoryMapSetup } from './memory-map-setup.ts';

const ram = { addr: 0x100000, size: 0x1000000, type: 1 } as const;

describe('taking the memory map', () => {
  it('a region reserved in the dynamic area kills the guest, one just above it does not', () => {
    const lines: string[] = [];
    const reserved = (addr: number) => [ram, { addr, size: 0x1000, type: 2 } as const];
    expect(() => memoryMapSetup(reserved(0xfdfff000), (line) => lines.push(line))).toThrow(FirmwareCrash);
    expect(lines).toEqual(['Fail to setup memory map due to conflict on dynamic reserved memory range.']);
    expect(memoryMapSetup(reserved(0xfe000000), () => {})).toHaveLength(2);
  });

  it('no map at all is a bug too', () => {
    expect(() => memoryMapSetup([], () => {})).toThrow('*** HVMLoader bug at e820.c:39');
  });
});
