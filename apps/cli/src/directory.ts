// Directories that an operator names for what a command writes. Owns that a place where none can be made is a mistake of usage.
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { OperatorError } from '#formats/operator-error';

/** Makes `path` and what is missing above it; throws OperatorError where that cannot be. */
export function makeDirectory(path: string): void {
  const missing: string[] = [];
  for (let at = resolve(path); !existsSync(at); at = dirname(at)) missing.unshift(at);
  try {
    // One by one: Node's own recursion never ends below a file system that refuses with ENOENT, such as /proc.
    for (const directory of missing) mkdirSync(directory);
    mkdirSync(path, { recursive: true });
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new OperatorError([
      { file: path, message: `no directory can be made there (${why})`, remedy: 'name a directory of your own' },
    ]);
  }
}
