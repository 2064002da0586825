import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { makeDirectory } from './directory.ts';

const home = mkdtempSync(join(tmpdir(), 'hostloom-directory-'));
afterAll(() => rmSync(home, { recursive: true }));

it('is made with all that is missing above it, and may be there already', () => {
  makeDirectory(join(home, 'a/b/c'));
  makeDirectory(join(home, 'a/b/c'));
  expect(existsSync(join(home, 'a/b/c'))).toBe(true);
});

it('is refused over a file, below a file, and where the system has no room for one', () => {
  const file = join(home, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'below'), '/proc/none/of/it']) {
    expect(() => makeDirectory(path)).toThrow(/no directory can be made there \(E[A-Z]+\)[\s\S]*name a directory/);
  }
});
