// Where a command speaks. Results go to standard output, progress to standard error: one line that is rewritten on a terminal,
// plain lines elsewhere. Knows nothing of what is said.

const ERASE_LINE = '\r\u001b[2K';

export interface Output {
  /** A line of the result. */
  line(text: string): void;
  /** What is being done now; replaces the progress before it. */
  progress(text: string): void;
  /** Something done: stands on a line of its own. */
  milestone(text: string): void;
  warn(text: string): void;
  /** The one JSON object of `--json`. */
  json(value: unknown): void;
}

export interface OutputOptions {
  /** Standard output carries one JSON object and nothing else. */
  readonly json: boolean;
  readonly stdout?: Pick<NodeJS.WriteStream, 'write'>;
  readonly stderr?: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>;
}

export class TerminalOutput implements Output {
  readonly #json: boolean;
  readonly #stdout: Pick<NodeJS.WriteStream, 'write'>;
  readonly #stderr: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>;
  #shown = '';

  constructor({ json, stdout = process.stdout, stderr = process.stderr }: OutputOptions) {
    this.#json = json;
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  line(text: string): void {
    this.#clear();
    if (!this.#json) this.#stdout.write(`${text}\n`);
  }

  progress(text: string): void {
    if (text === this.#shown) return;
    if (!this.#stderr.isTTY) {
      this.#stderr.write(`${text}\n`);
    } else {
      const width = (this.#stderr.columns || 80) - 1;
      this.#stderr.write(`${ERASE_LINE}${text.length > width ? `${text.slice(0, width - 1)}…` : text}`);
    }
    this.#shown = text;
  }

  milestone(text: string): void {
    this.#clear();
    this.#stderr.write(`${text}\n`);
  }

  warn(text: string): void {
    this.milestone(text);
  }

  json(value: unknown): void {
    this.#clear();
    if (this.#json) this.#stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  #clear(): void {
    if (this.#shown !== '' && this.#stderr.isTTY) this.#stderr.write(ERASE_LINE);
    this.#shown = '';
  }
}
