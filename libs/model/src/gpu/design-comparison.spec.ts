import { expect, it } from 'vitest';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import { sbdf } from '../frames/addresses.ts';
import { compareDesigns } from './design-comparison.ts';

it('x', () => {
  const rows = compareDesigns(
    smallConfig({
      frames: 32768,
      busFrames: 4096,
      mediatedGpus: [{ sbdf: sbdf(0, 0, 2, 0), gmPages: 1024, aperturePages: 256, apertureBase: 0xe0000000, tables: 32 }],
    }),
    { guests: 2, guestPages: 2048, dom0Pages: 4096, shadowed: 200 },
  );
  console.log(JSON.stringify(rows, null, 1));
  expect(rows.length).toBe(3);
});
