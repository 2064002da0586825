// Where this installation of hostloom stands: its root, and the built entry points of its processes. Works from dist/ and from
// the TypeScript sources alike; the processes it starts are always the built ones.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CommandError } from './exit-codes.ts';

export type AppName = 'hypervisor' | 'toolstack' | 'guest-agent' | 'dashboard';

function findRoot(): string {
  for (let dir = dirname(fileURLToPath(import.meta.url)); ; dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir;
    if (dir === dirname(dir)) throw new Error('hostloom is not inside its package');
  }
}

export const repositoryRoot = findRoot();

/** The program of one process. Throws CommandError when it is not built. */
export function appEntry(app: AppName): string {
  const entry = join(repositoryRoot, 'dist', 'bundle', 'apps', app, 'src', 'main.js');
  if (!existsSync(entry)) throw new CommandError(`${app} is not built`, 'run `npm run build` in the clone');
  return entry;
}
