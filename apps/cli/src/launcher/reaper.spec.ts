import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { HostProcess, ProcessGroup } from './process-group.ts';

const READY_AND_WAIT = `console.log('it is up'); setInterval(() => {}, 1000);`;
const WITH_CHILD = `
  const child = require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  console.log('child ' + child.pid); console.log('it is up'); setInterval(() => {}, 1000);`;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(ready: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !ready(); i++) await new Promise((settle) => setTimeout(settle, 10));
  expect(ready()).toBe(true);
}

const directories: string[] = [];
afterEach(() => {
  for (const dir of directories.splice(0)) rmSync(dir, { recursive: true, force: true });
});

function directory(script: string): { readonly entry: string; readonly logFile: string; readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'hl-spec-'));
  directories.push(path);
  const entry = join(path, 'main.cjs');
  writeFileSync(entry, script);
  return { entry, logFile: join(path, 'log'), path };
}

describe('the processes of a host', () => {
  it('a process is ready when it says so, and stopping ends it and what it started', async () => {
    const { entry, logFile } = directory(WITH_CHILD);
    const group = new ProcessGroup([]);
    const process = group.start({ name: 'app', entry, env: {}, logFile });
    await process.ready;
    const child = Number(/child (\d+)/.exec(process.lastWords)?.[1]);
    expect(isAlive(child)).toBe(true);
    await group.stop(null);
    expect(await process.exited).toMatchObject({ unexpected: false });
    await until(() => !isAlive(child));
  });

  it('a process that ends before it is ready is reported with what it said', async () => {
    const { entry, logFile } = directory(`console.error('no such host'); process.exit(64);`);
    const process = new HostProcess({ name: 'app', entry, env: {}, logFile });
    await expect(process.ready).rejects.toThrow(/app ended with status 64 before it was ready:\nno such host/);
    expect(await process.exited).toMatchObject({ code: 64, unexpected: true });
  });

  it('when the launcher is killed its processes end and its files go', async () => {
    const { entry, logFile, path } = directory(READY_AND_WAIT);
    const doomed = join(path, 'doomed');
    writeFileSync(doomed, '');
    const module = fileURLToPath(new URL('./process-group.ts', import.meta.url));
    const launcher = spawn(
      process.execPath,
      [
        '--conditions=source',
        '--input-type=module',
        '-e',
        `import { ProcessGroup } from ${JSON.stringify(module)};
         const group = new ProcessGroup([${JSON.stringify(doomed)}]);
         const app = group.start(${JSON.stringify({ name: 'app', entry, env: {}, logFile })});
         await app.ready; console.log(app.pid);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const pid = await new Promise<number>((settle) =>
      launcher.stdout.once('data', (chunk: Buffer) => settle(Number(chunk))),
    );
    expect(isAlive(pid)).toBe(true);
    launcher.kill('SIGKILL');
    await until(() => !isAlive(pid) && !existsSync(doomed));
  });
});
