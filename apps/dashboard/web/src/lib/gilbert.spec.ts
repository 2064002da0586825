import { expect, test } from 'vitest';
import { curveOver } from './gilbert.ts';

test('the curve visits every cell once, each beside the one before (a step aside where an odd side leaves no other way)', () => {
  for (const [width, height] of [
    [1, 1],
    [8, 8],
    [16, 9],
    [9, 16],
    [120, 80],
    [121, 79],
  ] as const) {
    const { cellOf, placeOf } = curveOver(width, height);
    expect(new Set(cellOf).size).toBe(width * height);
    let far = 0;
    for (let place = 0; place < cellOf.length; place++) {
      const cell = cellOf[place] as number;
      expect(placeOf[cell]).toBe(place);
      if (place === 0) continue;
      const before = cellOf[place - 1] as number;
      const dx = Math.abs((cell % width) - (before % width));
      const dy = Math.abs(Math.floor(cell / width) - Math.floor(before / width));
      expect(Math.max(dx, dy)).toBe(1);
      if (dx + dy > 1) far++;
    }
    expect(far).toBeLessThanOrEqual(1);
  }
});
