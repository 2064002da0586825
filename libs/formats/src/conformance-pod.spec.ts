import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { compareVectors } from './conformance.ts';

const file = 'xen_p2m_pod_set_mem_target.json';

it('set_pod_target leaves the cache that Xen’s own code leaves, in all 125 vectors', () => {
  const cases = JSON.parse(readFileSync(new URL(`../../../test/vectors/${file}`, import.meta.url), 'utf8'));
  const report = compareVectors(file, cases);
  expect(report.mismatches).toEqual([]);
  expect([report.status, report.cases]).toEqual(['compared', 125]);
}, 60_000);
