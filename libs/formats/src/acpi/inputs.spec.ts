import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseDmar } from './dmar.ts';
import { parseIvrs } from './ivrs.ts';
import { tableBytes } from './table-source.ts';

const inputs = process.env.HOSTLOOM_INPUTS;
const tables = inputs === undefined ? '' : join(inputs, 'dmar');

describe.skipIf(!existsSync(tables))('tables of real machines (set HOSTLOOM_INPUTS to their directory)', () => {
  const names = existsSync(tables) ? readdirSync(tables).filter((name) => name.endsWith('.dat')) : [];
  it.each(names)('%s reads as its description says', (name) => {
    const file = readFileSync(join(tables, name));
    const { table, parsed } = JSON.parse(readFileSync(join(tables, name.replace(/dat$/, 'json')), 'utf8'));
    const bytes = tableBytes(file, table);
    expect(table === 'DMAR' ? parseDmar(bytes) : parseIvrs(bytes)).toStrictEqual(parsed);
  });
});
