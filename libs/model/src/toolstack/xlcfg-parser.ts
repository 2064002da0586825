// The grammar of xl.cfg: assignments of atoms and nested lists. Follows libxlutil's generated parser move for move, its
// error messages, the point where it gives up and where it picks up again. Produces settings; what a key means is others'.

import { ParseState, type Token, type TokenKind, XlcfgLexer } from './xlcfg-lexer.ts';

export type XlcfgValue = { readonly line: number } & (
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'list'; readonly items: readonly XlcfgValue[] }
);

export interface XlcfgSetting {
  readonly name: string;
  readonly op: '=' | '+=';
  readonly value: XlcfgValue;
  /** Line of the value. */
  readonly line: number;
}

export interface XlcfgParse {
  readonly ok: boolean;
  /** Effective settings; of a failed parse, those before the first error. */
  readonly settings: ReadonlyMap<string, XlcfgSetting>;
  /** Messages, as the lines that xl prints. */
  readonly report: readonly string[];
}

/** Names as the generated parser's messages have them, in the order in which they list what they expected. */
const tokenNames: readonly [TokenKind, string][] = [
  ['$end', '$end'],
  ['IDENT', 'IDENT'],
  ['STRING', 'STRING'],
  ['NUMBER', 'NUMBER'],
  ['NEWLINE', 'NEWLINE'],
  ['+=', '+='],
  ['=', "'='"],
  [';', "';'"],
  ['[', "'['"],
  [']', "']'"],
  [',', "','"],
];
const nameOf = new Map(tokenNames);

/** What the parser can take at the points where it can notice an error; everywhere else it reduces first. */
const expectedAt = {
  statement: ['$end', 'IDENT', 'NEWLINE', ';'],
  operator: ['+=', '='],
  value: ['STRING', 'NUMBER', '['],
  listEnd: [']'],
  fileEnd: ['$end'],
} as const satisfies Record<string, readonly TokenKind[]>;
type ErrorPoint = keyof typeof expectedAt;

/** Unwinds to the statement level. `fatal`: the parser has left the list of statements and cannot resume. */
class XlcfgSyntaxError extends Error {
  readonly fatal: boolean;

  constructor(fatal: boolean) {
    super('syntax error');
    this.fatal = fatal;
  }
}

/** Lists within lists at which the generated parser's stack (10,000 symbols, three a level) is full. */
const NESTING_LIMIT = 3333;

/** Tokens to be shifted after an error before the next one is reported. */
const RECOVERY_TOKENS = 3;

type Assignment = Pick<XlcfgSetting, 'name' | 'op' | 'value'>;

class XlcfgParser {
  readonly #lexer: XlcfgLexer;
  readonly #state: ParseState;
  readonly #settings = new Map<string, XlcfgSetting>();
  #lookahead: Token | null = null;
  #recovering = 0;

  constructor(text: string, state: ParseState) {
    this.#state = state;
    this.#lexer = new XlcfgLexer(text, state);
  }

  run(): XlcfgParse {
    for (;;) {
      try {
        if (this.#statement() === 'end') break;
      } catch (error) {
        if (!(error instanceof XlcfgSyntaxError)) throw error;
        if (error.fatal || !this.#resume()) break;
      }
    }
    const { report, failed, likelyPython } = this.#state;
    if (failed && likelyPython) {
      report.push(
        'warning: Config file looks like it contains Python code.',
        'warning:  Arbitrary Python is no longer supported.',
        'warning:  See https://wiki.xen.org/wiki/PythonInXlConfig',
      );
    }
    return { ok: !failed, settings: this.#settings, report };
  }

  #peek(): Token {
    this.#lookahead ??= this.#lexer.next();
    return this.#lookahead;
  }

  #shift(): Token {
    const token = this.#peek();
    this.#lookahead = null;
    if (this.#recovering > 0) this.#recovering--;
    return token;
  }

  #fail(point: ErrorPoint): never {
    const found = this.#peek();
    if (this.#recovering === 0) {
      const expected = expectedAt[point].map((kind) => nameOf.get(kind)).join(' or ');
      this.#state.error(
        this.#state.tokenLine,
        `syntax error, unexpected ${nameOf.get(found.kind)}, expecting ${expected}`,
      );
      this.#state.failed = true;
    }
    throw new XlcfgSyntaxError(point === 'fileEnd' && !this.#state.tolerant);
  }

  /** After an error: everything up to the next newline is dropped. False at the end of the file. */
  #resume(): boolean {
    this.#recovering = RECOVERY_TOKENS;
    while (this.#peek().kind !== 'NEWLINE') {
      if (this.#peek().kind === '$end') return false;
      this.#lookahead = null;
    }
    this.#shift();
    return true;
  }

  #statement(): 'end' | 'more' {
    const token = this.#peek();
    if (token.kind === '$end') return 'end';
    if (token.kind === 'NEWLINE' || token.kind === ';') {
      this.#shift();
      return 'more';
    }
    if (token.kind !== 'IDENT') this.#fail('statement');
    const state = this.#state;
    const before = state.errorCount;
    const assigned = this.#assignment();
    if (!state.tolerant && !state.failed) this.#store(assigned);
    const after = this.#peek();
    // To the tolerant reader a value is whole only when nothing strange follows it.
    if (state.tolerant && state.errorCount === before) this.#store(assigned);
    if (after.kind === '$end') return 'end';
    // The grammar has taken the assignment for the file's last one by now.
    if (after.kind !== 'NEWLINE' && after.kind !== ';') {
      if (state.tolerant && after.kind === 'IDENT') return 'more';
      this.#fail('fileEnd');
    }
    this.#shift();
    return 'more';
  }

  #assignment(): Assignment {
    const name = this.#shift().value;
    const op = this.#peek().kind;
    if (op === '=' || op === '+=') {
      this.#shift();
      return { name, op, value: this.#value() };
    }
    return this.#fail('operator');
  }

  #value(depth = 0): XlcfgValue {
    const token = this.#peek();
    const line = this.#state.tokenLine;
    if (token.kind === 'STRING' || token.kind === 'NUMBER') {
      this.#shift();
      return { kind: 'string', text: token.value, line };
    }
    if (token.kind !== '[') this.#fail('value');
    if (depth === NESTING_LIMIT) {
      this.#state.error(this.#state.tokenLine, 'memory exhausted');
      throw new XlcfgSyntaxError(true);
    }
    this.#shift();
    this.#newlines();
    const items: XlcfgValue[] = [];
    while (this.#startsValue()) {
      items.push(this.#value(depth + 1));
      this.#newlines();
      if (this.#peek().kind !== ',') break;
      this.#shift();
      this.#newlines();
    }
    if (this.#peek().kind !== ']') this.#fail('listEnd');
    this.#shift();
    return { kind: 'list', items, line };
  }

  #startsValue(): boolean {
    const { kind } = this.#peek();
    return kind === 'STRING' || kind === 'NUMBER' || kind === '[';
  }

  #newlines(): void {
    while (this.#peek().kind === 'NEWLINE') this.#shift();
  }

  #store({ name, op, value: added }: Assignment): void {
    const before = op === '+=' ? this.#settings.get(name)?.value : undefined;
    let value = added;
    if (before !== undefined) {
      if (before.kind === 'list' && added.kind === 'list') {
        value = { ...added, items: [...before.items, ...added.items] };
      } else if (before.kind === 'string' && added.kind === 'string') {
        value = { ...added, text: before.text + added.text };
      } else {
        this.#state.lexicalError('can\'t add [list] to "string" or vice versa');
        this.#state.failed = true;
        return;
      }
    }
    this.#settings.set(name, { name, op, value, line: added.line });
  }
}

/** Parses a whole configuration. `source` is the name that messages carry. */
export function parseXlcfg(text: string, source: string): XlcfgParse {
  return new XlcfgParser(text, new ParseState(source)).run();
}

/** The settings that a broken file still has: each assignment that is whole, wherever the errors are. */
export function salvageXlcfg(text: string): XlcfgParse['settings'] {
  return new XlcfgParser(text.replaceAll('\r\n', '\n'), new ParseState('', true)).run().settings;
}
