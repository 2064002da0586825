// `hostloom bench [WHAT…]`: runs the programs of bench/ as `npm run bench` does. Owns nothing but finding and starting them.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError } from '../exit-codes.ts';
import { repositoryRoot } from '../repository.ts';

export function benchCommand(what: readonly string[], json: boolean, signal: AbortSignal): Promise<number> {
  const entry = join(repositoryRoot, 'dist', 'bench', 'run.js');
  if (!existsSync(entry)) throw new CommandError('the benchmarks are not built', 'run `npm run build` in the clone');
  const child = spawn(process.execPath, ['--enable-source-maps', entry, ...what, ...(json ? ['--json'] : [])], {
    cwd: repositoryRoot,
    stdio: 'inherit',
  });
  signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });
}
