// Every file of litmus/advisories is a row that the bench can take: without running any of them.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkLitmus } from './litmus-checks.ts';
import { loadLitmus } from './load-litmus.ts';

const folder = fileURLToPath(new URL('../../../litmus/advisories/', import.meta.url));

describe('rows of the advisory bench', () => {
  it.each(readdirSync(folder))(
    '%s is well-formed, named by its id, and has a broken variant and one that holds',
    async (name) => {
      const path = folder + name;
      const test = await loadLitmus(path);
      checkLitmus(name, readFileSync(path, 'utf8'), test);
      expect(test.advisory?.id.toLowerCase().replace(/[^a-z0-9]+/g, '-')).toBe(name.replace(/\.ts$/, ''));
      const verdicts = Object.values(test.variants).map((variant) => variant.expect.verdict);
      expect(new Set(verdicts)).toEqual(new Set(['violates', 'holds']));
      if (test.advisory?.grain === 'steps') expect(test.advisory.why).toBeTruthy();
    },
  );
});
