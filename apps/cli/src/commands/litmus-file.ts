// Which litmus test a user means: a path as typed, or one of the clone's own. Owns how a test is named in replay strings, so that
// one printed in the clone can be pasted anywhere.
import { existsSync } from 'node:fs';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { CommandError, EXIT_USAGE } from '../exit-codes.ts';
import { repositoryRoot } from '../repository.ts';

export interface LitmusFile {
  readonly path: string;
  /** In the clone from its root, elsewhere whole. */
  readonly shownPath: string;
}

export function findLitmus(name: string): LitmusFile {
  const path = [resolve(name), join(repositoryRoot, name)].find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new CommandError(
      `${name} does not exist`,
      'name a file such as litmus/shatter.ts; docs/litmus.md says how to write one',
      EXIT_USAGE,
    );
  }
  if (!/\.[mc]?[jt]s$/.test(path)) {
    throw new CommandError(
      `${name} is no litmus test`,
      'a litmus test is a .ts file with a default export: see docs/litmus.md',
      EXIT_USAGE,
    );
  }
  const inside = relative(repositoryRoot, path);
  return { path, shownPath: inside.startsWith('..') || isAbsolute(inside) ? path : inside };
}
