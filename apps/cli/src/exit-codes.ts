// How a hostloom command ends: its exit codes, and the error that carries one. Owns what is printed for each kind of error;
// knows no command.
import { EXIT_USAGE, OperatorError } from '#formats/operator-error';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
/** The outcome could not be found out: a process died, a time ran out. */
export const EXIT_UNKNOWN = 2;
/** Ended by Ctrl-C, as shells report it. */
export const EXIT_INTERRUPTED = 130;
export { EXIT_USAGE };

/** Something an operator can put right that stands in no file: what is wrong, and what to do. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number;
  readonly remedy: string;

  constructor(message: string, remedy: string, exitCode: number = EXIT_FAILED) {
    super(message);
    this.exitCode = exitCode;
    this.remedy = remedy;
  }
}

/** What a person reads about an error, and the status it ends the process with. */
export function describeError(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof OperatorError) return { text: error.message, exitCode: error.exitCode };
  if (error instanceof CommandError) {
    return { text: `hostloom: ${error.message}\n    → ${error.remedy}`, exitCode: error.exitCode };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { text: `hostloom: internal error\n${text}`, exitCode: EXIT_FAILED };
}
