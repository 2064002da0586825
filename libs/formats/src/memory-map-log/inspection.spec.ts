import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { memoryMapObject } from './inspection.ts';
import { parseMemoryMapLog } from './memory-map-log.ts';

const inputs = process.env.HOSTLOOM_INPUTS;
const logs = inputs === undefined ? undefined : join(inputs, 'logs');

describe.skipIf(logs === undefined || !existsSync(logs))(
  'collected logs (set HOSTLOOM_INPUTS to their directory)',
  () => {
    const names = logs === undefined ? [] : readdirSync(logs).filter((name) => name.endsWith('.txt'));
    it.each(names)('%s reads as its description says', (name) => {
      const text = readFileSync(join(logs ?? '', name), 'utf8');
      const described = JSON.parse(readFileSync(join(logs ?? '', name.replace(/txt$/, 'json')), 'utf8'));
      const { rmrr_from_dmar: _, ...parsed } = described.parsed;
      expect(memoryMapObject(parseMemoryMapLog(text))).toEqual(parsed);
    });
  },
);
