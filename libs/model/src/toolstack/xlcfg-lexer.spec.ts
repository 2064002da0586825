import { describe, expect, it } from 'vitest';
import { ParseState, XlcfgLexer } from './xlcfg-lexer.ts';

function tokens(text: string): { kinds: string[]; values: string[]; state: ParseState } {
  const state = new ParseState('f');
  const lexer = new XlcfgLexer(text, state);
  const kinds: string[] = [];
  const values: string[] = [];
  for (;;) {
    const token = lexer.next();
    kinds.push(token.kind);
    values.push(token.value);
    if (token.kind === '$end') return { kinds, values, state };
  }
}

describe('the lexer of xl.cfg', () => {
  it('takes the longest token, keeps numbers as text and removes quotes and escapes', () => {
    const { kinds, values } = tokens('mem_0.x+=0x1f,"a\\tb"\n');
    expect(kinds).toEqual(['IDENT', '+=', 'NUMBER', ',', 'STRING', 'NEWLINE', '$end']);
    expect(values.slice(0, 5)).toEqual(['mem_0.x', '+=', '0x1f', ',', 'a\tb']);
  });

  it('a comment needs its newline, without one it is an error', () => {
    expect(tokens('# c\n').state.failed).toBe(false);
    expect(tokens('# c').state.report).toEqual(["f:1: config parsing error near `#': lexical error"]);
  });

  it('garbage is swallowed up to the next blank and reported once a line', () => {
    const { kinds, state } = tokens('@x@ @ a\n-b\n');
    expect(kinds).toEqual(['IDENT', 'NEWLINE', 'NEWLINE', '$end']);
    expect(state.report).toEqual([
      "f:1: config parsing error near `@x@': lexical error",
      "f:2: config parsing error near `-b': lexical error",
    ]);
    expect(state.likelyPython).toBe(true);
  });

  it('garbage right before the end of a line silences the next line too, as in Xen', () => {
    expect(tokens('@\n@ \n').state.report).toHaveLength(1);
  });

  it('an octal escape is swallowed, a hexadecimal one refused', () => {
    expect(tokens('"a\\101b"').values[0]).toBe('ab');
    expect(tokens('"\\x41"').state.report[0]).toContain('hexnumerical');
  });
});
