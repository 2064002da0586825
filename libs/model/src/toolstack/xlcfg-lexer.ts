// The token level of xl.cfg, rule for rule what libxlutil's lexer does: longest match, an error state that swallows up to
// the next blank, line numbers, escapes. It reports errors to the shared ParseState and knows no grammar.

export type TokenKind = '$end' | 'IDENT' | 'STRING' | 'NUMBER' | 'NEWLINE' | '+=' | '=' | ';' | '[' | ']' | ',';

export interface Token {
  readonly kind: TokenKind;
  /** Identifier, number as written, or the string without quotes and escapes. */
  readonly value: string;
}

/** What lexer and parser share: the first error stops all storing, later ones are still reported, one a line at most. */
export class ParseState {
  readonly source: string;
  /** Xen stops storing at the first error; a reader who wants what can still be read goes on. */
  readonly tolerant: boolean;
  readonly report: string[] = [];
  failed = false;
  /** Errors met so far, said or not. */
  errorCount = 0;
  likelyPython = false;
  /** Text of the token last matched, as error messages quote it. */
  text = '';
  /** Line that the scanner has reached. */
  scannerLine = 1;
  /** Line of the token last returned; end of file keeps the one before. */
  tokenLine = 1;
  #lastLexicalLine = -1;

  constructor(source: string, tolerant = false) {
    this.source = source;
    this.tolerant = tolerant;
  }

  lexicalError(message: string): void {
    this.error(this.scannerLine, message);
    this.#lastLexicalLine = this.scannerLine;
  }

  /** A line with a lexical error gets no second message. */
  error(at: number, message: string): void {
    this.errorCount++;
    if (at <= this.#lastLexicalLine) return;
    let line = at;
    let near = this.text;
    let newline = '';
    if (near.endsWith('\n')) {
      near = near.slice(0, -1);
      line--;
      if (near === '') newline = '<newline>';
    }
    const quoted = near === '' ? '' : `\`${near.replace(/[\t ]+$/, '').replace('\0', '')}'`;
    this.report.push(`${this.source}:${line}: config parsing error near ${quoted}${newline}: ${message}`);
    this.failed = true;
  }
}

const escapes: Record<string, string> = {
  '"': '"',
  "'": "'",
  '\\': '\\',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

const rules: readonly [RegExp, TokenKind | 'blank'][] = [
  [/[a-z][._0-9a-z]*/y, 'IDENT'],
  [/[0-9][0-9a-fx]*/y, 'NUMBER'],
  [/[ \t]/y, 'blank'],
  [/,/y, ','],
  [/\[/y, '['],
  [/\]/y, ']'],
  [/\+=/y, '+='],
  [/=/y, '='],
  [/;/y, ';'],
  [/\n|#[^\n]*\n/y, 'NEWLINE'],
  [/'(?:[^'\\\n]|\\[^\n])*'/y, 'STRING'],
  [/"(?:[^"\\\n]|\\[^\n])*"/y, 'STRING'],
];

/** Characters that make an error look like Python code. */
const pythonish = /[+\-.():]/;

export class XlcfgLexer {
  readonly #text: string;
  readonly #state: ParseState;
  #at = 0;

  constructor(text: string, state: ParseState) {
    this.#text = text;
    this.#state = state;
  }

  next(): Token {
    for (;;) {
      const found = this.#match();
      if (found !== null) return found;
    }
  }

  /** One token, or null if only blanks or garbage were passed over. */
  #match(): Token | null {
    const state = this.#state;
    if (this.#at >= this.#text.length) return this.#end('');
    for (const [pattern, kind] of rules) {
      pattern.lastIndex = this.#at;
      const text = pattern.exec(this.#text)?.[0];
      if (text === undefined) continue;
      this.#at += text.length;
      state.text = text;
      return kind === 'blank' ? null : this.#token(kind, text);
    }
    return this.#garbage();
  }

  #token(kind: TokenKind, text: string): Token {
    const state = this.#state;
    if (kind === 'NEWLINE') {
      state.tokenLine = state.scannerLine;
      state.scannerLine++;
      return { kind, value: '' };
    }
    const value = kind === 'STRING' ? this.#dequote(text) : text;
    state.tokenLine = state.scannerLine;
    return { kind, value };
  }

  /** The scanner's text at end of file is the NUL that ends its buffer, after whatever was being collected. */
  #end(collected: string): Token {
    this.#state.text = `${collected}\0`;
    return { kind: '$end', value: '' };
  }

  /** A character no rule knows: it and everything up to a blank is one error. */
  #garbage(): Token | null {
    const state = this.#state;
    const first = this.#text[this.#at] ?? '';
    if (pythonish.test(first)) state.likelyPython = true;
    this.#at++;
    // Xen's scanner sees bytes: of a character beyond ASCII it has only the first one yet, and swallows the others.
    const partial = first > '\x7f';
    if (this.#at >= this.#text.length && !partial) return this.#end(first);
    const rest = partial ? /[^ \t\n]*/y : /[^ \t\n]+|[ \t\n]/y;
    rest.lastIndex = this.#at;
    const swallowed = rest.exec(this.#text)?.[0] ?? '';
    this.#at += swallowed.length;
    state.text = first + swallowed;
    if (swallowed !== '\n') {
      state.lexicalError('lexical error');
      return null;
    }
    state.scannerLine++; // counted before the message, which therefore also silences the next line
    state.lexicalError('lexical error');
    state.tokenLine = state.scannerLine;
    return { kind: 'NEWLINE', value: '' };
  }

  #dequote(quoted: string): string {
    const state = this.#state;
    if (state.failed && !state.tolerant) return '';
    let value = '';
    for (let i = 1; i < quoted.length - 1; ) {
      const c = quoted[i++] ?? '';
      if (c !== '\\') {
        value += c;
        continue;
      }
      const escaped = quoted[i++] ?? '';
      const plain = escapes[escaped];
      if (plain !== undefined) {
        value += plain;
      } else if (escaped >= '0' && escaped <= '7') {
        // As libxlutil reads it: decimal, not counting the first digit, at least two more; and it emits nothing.
        const digits = /^[ \t\v\f\r]*[+-]?[0-9]+/.exec(quoted.slice(i, i + 3))?.[0] ?? '';
        if (digits.length < 2) return this.#badEscape('invalid digit after backslash octalnumerical character escape');
        i += digits.length;
      } else if (escaped === 'x') {
        return this.#badEscape('invalid digit after backslash hexnumerical character escape');
      } else {
        return this.#badEscape('invalid character after backlash');
      }
    }
    return value;
  }

  #badEscape(what: string): string {
    this.#state.lexicalError(`${what} in quoted string`);
    this.#state.failed = true;
    return '';
  }
}
