import { describe, expect, it } from 'vitest';
import type { E820Entry } from './e820.ts';
import { sanitizePvE820 } from './pv-e820.ts';

const hostE820: E820Entry[] = [
  { addr: 0, size: 0x9d000, type: 1 },
  { addr: 0x100001, size: 0xab709fff, type: 1 },
  { addr: 0xab80a000, size: 0x1e000, type: 2 },
  { addr: 0x100000000, size: 0x350000000, type: 1 },
];

describe('the map of a PV guest that sees the host', () => {
  it('cuts RAM at the first region that is not RAM and adds the rest above 4 GiB', () => {
    const result = sanitizePvE820({ hostE820, targetMemkb: 4194304, balloonKb: 0 });
    expect(result.ok && result.e820).toEqual([
      { addr: 0, size: 0xab80a000, type: 1 },
      { addr: 0xab80a000, size: 0, type: 5 }, // Xen keeps the empty rest of the host's RAM
      { addr: 0xab80a000, size: 0x1e000, type: 2 },
      { addr: 0x100000000, size: 0x100000000 - 0xab80a000, type: 1 },
    ]);
  });

  it('marks host RAM the guest does not own as unusable, so that Linux finds no PCI space there', () => {
    const result = sanitizePvE820({ hostE820, targetMemkb: 65536, balloonKb: 0 });
    expect(result.ok && result.e820[1]).toEqual({ addr: 0x4000000, size: 0xab80a000 - 0x4000000, type: 5 });
  });
});
