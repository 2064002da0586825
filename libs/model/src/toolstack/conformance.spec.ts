import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runVectorFile, vectorFiles } from '#formats/conformance';
import { OperatorError } from '#formats/operator-error';

const directory = new URL('../../../../test/vectors/', import.meta.url);
const present = readdirSync(directory).filter((name) => name.endsWith('.json'));
const textOf = (file: string): string => readFileSync(new URL(file, directory), 'utf8');
const run = (file: string, text: string, bugCompat = false) => runVectorFile(file, file, text, { bugCompat });

describe('golden vectors of Xen', () => {
  it('every function has its file, and every file its function', () => {
    expect(present.sort()).toEqual([...vectorFiles].sort());
  });

  for (const bugCompat of [false, true]) {
    for (const file of present) {
      const as = bugCompat ? 'to the letter' : 'as documented';
      it(`${file}: every case gives what Xen's own code gave, ${as}`, () => {
        const report = run(file, textOf(file), bugCompat);
        expect(report.mismatches).toEqual([]);
        expect(report.total).toBeGreaterThan(0);
      });
    }
  }
});

describe('the comparison', () => {
  it('notices a wrong answer and says where it stands and what was expected', () => {
    const cases = JSON.parse(textOf('libxl_build_layout.json'));
    const wrong = cases.map((one: { output: object }) => ({ ...one, output: { ...one.output, mmio_size: '0x0' } }));
    const { mismatches, total } = run('libxl_build_layout.json', JSON.stringify(wrong));
    expect(mismatches).toHaveLength(total);
    expect(mismatches[0]).toMatchObject({ path: '$.mmio_size', expected: '0x0' });
  });

  it('takes a case whose function breaks off for a failed one, and goes on', () => {
    const text = JSON.stringify([
      { name: 'no-text', input: {}, output: {} },
      { name: 'fine', input: { text: '' }, output: { ok: true, errno: 0, settings: {}, integers: {}, report: [] } },
    ]);
    const { mismatches, total } = run('xlu_cfg.json', text);
    expect(total).toBe(2);
    expect(mismatches).toEqual([{ name: 'no-text', error: expect.stringContaining('field text') }]);
  });

  it('compares with what Xen documents, and only with bugCompat with what Xen does', () => {
    const cases = JSON.parse(textOf('xlu_rdm_parse.json')).filter(
      (one: { output: { ok: boolean }; output_documented: { ok: boolean } }) =>
        one.output.ok !== one.output_documented.ok,
    );
    expect(cases.length).toBeGreaterThan(5);
    const undocumented = JSON.stringify(cases.map(({ output_documented: _, ...one }: Record<string, unknown>) => one));
    expect(run('xlu_rdm_parse.json', undocumented).mismatches).toHaveLength(cases.length);
    expect(run('xlu_rdm_parse.json', undocumented, true).mismatches).toEqual([]);
  });

  it('refuses a file that nobody answers for, that is not JSON, or that holds no cases', () => {
    const refusal = (file: string, text: string): string => {
      try {
        run(file, text);
      } catch (error) {
        if (error instanceof OperatorError) return error.message;
        throw error;
      }
      return '';
    };
    expect(refusal('xlu_unknown.json', '[]')).toContain('no function answers');
    expect(refusal('xlu_cfg.json', '[\n{"name": }]')).toMatch(/^xlu_cfg\.json: not JSON/);
    expect(refusal('xlu_cfg.json', '{}')).toContain('no array of cases');
    expect(refusal('xlu_cfg.json', '[{"name":"a","input":[],"output":{}}]')).toContain('case 1: "input" of a');
    expect(refusal('xlu_cfg.json', '[{"name":"a","input":{}}]')).toContain('a has no "output"');
    expect(refusal('xlu_cfg.json', '[3]')).toContain('case 1: no object');
  });
});
