import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseLspci } from './lspci.ts';
import { lspciObject } from './lspci-inspection.ts';

const inputs = process.env.HOSTLOOM_INPUTS;
const listings = inputs === undefined ? undefined : join(inputs, 'lspci');

describe.skipIf(listings === undefined || !existsSync(listings))(
  'collected listings (set HOSTLOOM_INPUTS to their directory)',
  () => {
    const names = listings === undefined ? [] : readdirSync(listings).filter((name) => name.endsWith('.txt'));
    it.each(names)('%s reads as its description says', (name) => {
      const text = readFileSync(join(listings ?? '', name), 'utf8');
      const { devices, gpus } = JSON.parse(readFileSync(join(listings ?? '', name.replace(/txt$/, 'json')), 'utf8'));
      expect(lspciObject(parseLspci(text))).toEqual({ devices, gpus });
    });
  },
);
