// Lines of a log or listing as people paste them: numbered, without their line ends, none longer than any real one. Owns the
// splitting and the note on a line that cannot be right; knows no format.

/** Longer than any line that a kernel, Xen or lspci prints: what is longer is damaged, and not looked at. */
const LONGEST_LINE = 4096;

export interface TextLine {
  /** 1-based. */
  readonly number: number;
  readonly text: string;
}

/** Something wrong in a text that could be read all the same. */
export interface LineProblem {
  readonly line: number;
  readonly message: string;
}

/** One at a time: a log of a long-running machine has millions. */
export function* textLines(text: string, problems: LineProblem[]): Generator<TextLine> {
  for (let start = 0, number = 1; start <= text.length; number++) {
    const newline = text.indexOf('\n', start);
    const next = newline < 0 ? text.length : newline;
    const end = next > start && text[next - 1] === '\r' ? next - 1 : next;
    if (end - start <= LONGEST_LINE) yield { number, text: text.slice(start, end) };
    else problems.push({ line: number, message: `a line of ${end - start} characters is passed over` });
    start = next + 1;
  }
}

/** Hexadecimal digits, with or without `0x`, as a number; undefined from 2^53 on, beyond every address of memory. */
export function hexNumber(digits: string): number | undefined {
  const value = Number.parseInt(digits, 16);
  return Number.isSafeInteger(value) ? value : undefined;
}
