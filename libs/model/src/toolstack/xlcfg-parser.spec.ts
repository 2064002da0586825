import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseXlcfg, salvageXlcfg, type XlcfgValue } from './xlcfg-parser.ts';

const plain = (value: XlcfgValue): unknown => (value.kind === 'string' ? value.text : value.items.map(plain));
const settings = (text: string): Record<string, unknown> =>
  Object.fromEntries([...parseXlcfg(text, 'g.cfg').settings.values()].map((s) => [s.name, plain(s.value)]));

describe('the grammar of xl.cfg', () => {
  it('reads atoms, nested lists with newlines and a trailing comma, and several statements a line', () => {
    expect(settings('a=1;b="x"\nc = [ 1,\n [ "y" ], # z\n]')).toEqual({ a: '1', b: 'x', c: ['1', ['y']] });
  });

  it('the last assignment wins; += concatenates strings and appends lists', () => {
    expect(settings('a=1\na=2\nb="x"\nb+="y"\nc=["p"]\nc+=["q"]\n')).toEqual({ a: '2', b: 'xy', c: ['p', 'q'] });
  });

  it('names what it expected, and the line', () => {
    expect(parseXlcfg('a=1\nb 2\n', 'g.cfg').report).toEqual([
      "g.cfg:2: config parsing error near `2': syntax error, unexpected NUMBER, expecting += or '='",
    ]);
  });

  it('resumes at the next line after a bad one, but stores nothing any more', () => {
    const parsed = parseXlcfg('a=1\nb 2\nc=3\nd 4\n', 'g.cfg');
    expect(parsed.report).toHaveLength(2);
    expect([...parsed.settings.keys()]).toEqual(['a']);
  });

  it('gives up where a second assignment follows on a line: the first counts as the end of the file', () => {
    const parsed = parseXlcfg('a=1 b=2\nc 3\n', 'g.cfg');
    expect(parsed.report).toEqual([
      "g.cfg:1: config parsing error near `b': syntax error, unexpected IDENT, expecting $end",
    ]);
  });

  it('never throws and reports every failure, whatever the text', () => {
    const piece = fc.constantFrom(
      'a',
      '=',
      '+=',
      '[',
      ']',
      ',',
      ';',
      '\n',
      ' ',
      '"s"',
      "'",
      '"',
      '\\',
      '1',
      '#',
      '@',
      '-',
      'Z',
      'é',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const parsed = parseXlcfg(pieces.join(''), 'g.cfg');
        expect(parsed.ok).toBe(parsed.report.length === 0);
      }),
    );
  });

  it('gives up, as the generated parser does, where lists are nested too deeply', () => {
    const { ok, report } = parseXlcfg(`a = ${'['.repeat(20_000)}`, 'g.cfg');
    expect(ok).toBe(false);
    expect(report.join()).toContain('memory exhausted');
  });
});

describe('a broken file', () => {
  it('still has the assignments that are whole, before and after its errors', () => {
    const text = "a = 1 b = 'x'\nC = 2\nd = 0xFF\ne = [ '1', '2' ]\nf = (3)\ng = 4\r\n";
    const salvaged = [...salvageXlcfg(text).values()].map(({ name, value }) => [
      name,
      value.kind === 'string' ? value.text : value.items.length,
    ]);
    expect(salvaged).toEqual([
      ['a', '1'],
      ['b', 'x'],
      ['e', 2],
      ['g', '4'],
    ]);
  });
});
