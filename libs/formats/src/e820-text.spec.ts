import { expect, test } from 'vitest';
import { e820Lines, e820TypeName, formatE820 } from './e820-text.ts';

test('a guest with a 2 GiB MMIO hole prints rows with exclusive ends and the holes between them', () => {
  const text = formatE820([
    { addr: 0, size: 0xa0000, type: 1 },
    { addr: 0xf0000, size: 0x10000, type: 2 },
    { addr: 0x100000, size: 0x7ff00000, type: 1 },
    { addr: 0xfc000000, size: 0x11000, type: 4 },
    { addr: 0xfc011000, size: 0x3fef000, type: 2 },
    { addr: 0x100000000, size: 0x40000000, type: 1 },
  ]);
  expect(text).toBe(
    [
      'E820 table:',
      ' [00]: 00000000:00000000 - 00000000:000a0000: RAM',
      ' HOLE: 00000000:000a0000 - 00000000:000f0000',
      ' [01]: 00000000:000f0000 - 00000000:00100000: RESERVED',
      ' [02]: 00000000:00100000 - 00000000:80000000: RAM',
      ' HOLE: 00000000:80000000 - 00000000:fc000000',
      ' [03]: 00000000:fc000000 - 00000000:fc011000: NVS',
      ' [04]: 00000000:fc011000 - 00000001:00000000: RESERVED',
      ' [05]: 00000001:00000000 - 00000001:40000000: RAM',
      '',
    ].join('\n'),
  );
});

test('an entry that begins inside the one before it is flagged', () => {
  const lines = e820Lines([
    { addr: 0, size: 0x2000, type: 1 },
    { addr: 0x1000, size: 0x3000, type: 2 },
  ]);
  expect(lines[2]).toBe(' OVERLAP!!');
  expect(lines[3]).toBe(' [01]: 00000000:00001000 - 00000000:00004000: RESERVED');
});

test('a type the firmware has no word for is shown by number', () => {
  expect(e820TypeName(5)).toBe('UNKNOWN (00000005)');
  expect([1, 2, 3, 4].map(e820TypeName)).toEqual(['RAM', 'RESERVED', 'ACPI', 'NVS']);
});
