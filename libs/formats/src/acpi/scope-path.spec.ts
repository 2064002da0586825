import { describe, expect, it } from 'vitest';
import { sbdf } from '#model/frames/addresses';
import { resolveScopePath, secondaryBusesOf } from './scope-path.ts';

const buses = secondaryBusesOf([
  { bdf: '00:1c.4', bus: { secondary: '02' } },
  { bdf: '0000:02:00.0', bus: { secondary: '03' } },
  { bdf: '00:1c.5', bus: { secondary: '00' } },
  { bdf: '0001:00:1c.4', bus: { secondary: '40' } },
  { bdf: '03:02.1', bus: null },
]);

describe('a scope path', () => {
  it('of one hop is a device on the start bus', () => {
    expect(resolveScopePath(0, { start_bus: 0xf0, path: ['1f.0'] }, new Map())).toEqual({
      sbdf: sbdf(0, 0xf0, 0x1f, 0),
    });
  });

  it('goes over each bridge to its secondary bus', () => {
    expect(resolveScopePath(0, { start_bus: 0, path: ['1c.4', '00.0', '02.1'] }, buses)).toEqual({
      sbdf: sbdf(0, 3, 2, 1),
    });
  });

  it('stays in its PCI segment', () => {
    expect(resolveScopePath(1, { start_bus: 0, path: ['1c.4', '00.0'] }, buses)).toEqual({
      sbdf: sbdf(1, 0x40, 0, 0),
    });
  });

  it.each([
    ['a bridge that nobody knows', ['1d.0', '00.0'], '0000:00:1d.0'],
    ['a device that is no bridge', ['1c.4', '00.0', '02.1', '00.0'], '0000:03:02.1'],
    ['a bridge without a bus behind it', ['1c.5', '00.0'], '0000:00:1c.5'],
    ['what no device can be', ['20.0', '00.0'], '0000:00:20.0'],
  ])('is unresolved at %s', (_, path, unresolvedAt) => {
    expect(resolveScopePath(0, { start_bus: 0, path }, buses)).toEqual({ unresolvedAt });
  });
});
