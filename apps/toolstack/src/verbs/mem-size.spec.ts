import { expect, it } from 'vitest';
import { parseMemSizeKb } from './mem-size.ts';

it('reads sizes as xl does: MiB unless a letter says otherwise', () => {
  const sizes = { '512': 524_288, '512m': 524_288, '1G': 1_048_576, '2t': 2_147_483_648, '8k': 8, '4095b': 3, '0': 0 };
  for (const [text, kb] of Object.entries(sizes)) expect(parseMemSizeKb(text), text).toBe(kb);
});

it('refuses what is not a size', () => {
  for (const text of ['', 'x', '-5', '5mb', '1.5g', '5 m', '5x', '99999999999999999999']) {
    expect(parseMemSizeKb(text), text).toBeNull();
  }
});
