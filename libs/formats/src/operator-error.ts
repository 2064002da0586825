// An operator's mistake: something wrong in a file or an argument that a person wrote, told so that the person can put it
// right. Owns the shape and the text of such messages and the exit code they lead to; knows no file format.

/** `EX_USAGE`: a bad command line or a bad file (DESIGN 5). */
export const EXIT_USAGE = 64;

export interface Problem {
  readonly file: string;
  /** 1-based; absent where the file as a whole is at fault (it cannot be read). */
  readonly line?: number;
  readonly column?: number;
  /** What is wrong. */
  readonly message: string;
  /** What to do about it. */
  readonly remedy: string;
}

/** `file:line:column: message` and, below it, what to do. */
export function formatProblem(problem: Problem): string {
  const at = [problem.file, problem.line, problem.column].filter((part) => part !== undefined).join(':');
  return `${at}: ${problem.message}\n    → ${problem.remedy}`;
}

/** All the problems found in one go, first in the file first. `file`, `line` and `remedy` are those of the first. */
export class OperatorError extends Error {
  readonly exitCode = EXIT_USAGE;
  readonly problems: readonly Problem[];
  readonly file: string;
  readonly line: number | undefined;
  readonly remedy: string;

  constructor(problems: readonly [Problem, ...Problem[]]) {
    super(problems.map(formatProblem).join('\n'));
    this.name = 'OperatorError';
    this.problems = problems;
    this.file = problems[0].file;
    this.line = problems[0].line;
    this.remedy = problems[0].remedy;
  }
}

/** The candidate a person most likely meant: at most a third of its letters differ. */
export function closestName(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best !== undefined && bestDistance <= Math.max(1, Math.floor(best.length / 3)) ? best : undefined;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 8) return Number.POSITIVE_INFINITY;
  const at = (row: readonly number[] | undefined, index: number): number => row?.[index] ?? Number.POSITIVE_INFINITY;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(at(rows[i - 1], j) + 1, at(row, j - 1) + 1, at(rows[i - 1], j - 1) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, at(rows[i - 2], j - 2) + 1);
      }
      row.push(least);
    }
    rows.push(row);
  }
  return at(rows[a.length], b.length);
}
