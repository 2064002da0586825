import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { compareVectors, registerLater, registerVectorFunction, vectorFiles } from '#formats/conformance';

const directory = new URL('../../../../test/vectors/', import.meta.url);
const files = readdirSync(directory).filter((name) => name.endsWith('.json'));
const load = (file: string) => JSON.parse(readFileSync(new URL(file, directory), 'utf8'));

describe('golden vectors of Xen', () => {
  for (const file of vectorFiles()) {
    it(`${file}: every case gives what Xen's own code gave`, () => {
      const report = compareVectors(file, load(file));
      expect(report.mismatches).toEqual([]);
      expect(report.cases).toBeGreaterThan(0);
    });
  }

  it('no file of vectors is without an owner', () => {
    const owned = new Set([...vectorFiles(), ...registerLater]);
    expect(files.filter((file) => !owned.has(file))).toEqual([]);
  });

  it('a wrong answer is noticed, so that the comparison is live', () => {
    const cases = load('libxl_build_layout.json');
    const wrong = cases.map((one: { output: object }) => ({ ...one, output: { ...one.output, mmio_size: '0x0' } }));
    expect(compareVectors('libxl_build_layout.json', wrong).mismatches).toHaveLength(cases.length);
  });

  it('an answer that is missing or throws is a mismatch, not a crash', () => {
    const report = compareVectors('xlu_cfg.json', [{ name: 'no-text', input: {}, output: {} }]);
    expect(report.mismatches[0]?.difference).toContain('field text');
  });
});

describe('the registry', () => {
  const file = 'registered_by_a_test.json';
  afterAll(() => registerVectorFunction(file, { run: () => null }));

  it('takes functions of other areas under their file name', () => {
    expect(compareVectors(file, []).status).toBe('unknown');
    registerVectorFunction(file, { run: (input) => input });
    const report = compareVectors(file, [{ name: 'echo', input: { a: 1 }, output: { a: 1 } }]);
    expect(report).toMatchObject({ status: 'compared', mismatches: [] });
  });
});
