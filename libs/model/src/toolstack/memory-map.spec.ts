import { describe, expect, it } from 'vitest';
import { constructMemmap } from './memory-map.ts';

describe('the memory map given to the hypervisor', () => {
  it('lists low RAM from 1 MiB, visible reserved regions, high RAM, in that order', () => {
    const rdms = [
      { start: 0xad000000, size: 0x2800000, policy: 'strict' },
      { start: 0xe0000, size: 0x10000, policy: 'invalid' },
    ] as const;
    const result = constructMemmap({
      type: 'hvm',
      lowmemEnd: 0xad000000,
      highmemEnd: 0x152800000,
      rdms,
      acpiModules: [],
    });
    expect(result).toEqual({
      ok: true,
      memmap: [
        { addr: 0x100000, size: 0xacf00000, type: 1 },
        { addr: 0xad000000, size: 0x2800000, type: 2 },
        { addr: 0x100000000, size: 0x52800000, type: 1 },
      ],
    });
  });

  it('fails at 128 entries', () => {
    const rdms = Array.from({ length: 127 }, (_, i) => ({ start: i * 4096, size: 4096, policy: 'strict' as const }));
    const common = { type: 'hvm' as const, lowmemEnd: 0x10000000, highmemEnd: 0, acpiModules: [] };
    expect(constructMemmap({ ...common, rdms: rdms.slice(1) }).ok).toBe(true);
    expect(constructMemmap({ ...common, rdms }).ok).toBe(false);
  });
});
