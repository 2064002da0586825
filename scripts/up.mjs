// `npm start`, after set-up and build: plays the main scenario and says where the report is; on a terminal its host then stays up
// with the dashboard. The command prints the verdict; this script hands over to it, so that Ctrl-C and the exit status are its own.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const scenario = 'scenarios/pod-gpu-dma.yaml';

console.error(`hostloom: running ${scenario} with all its twins (Ctrl-C ends everything)`);
const child = spawn(`${root}bin/hostloom`, ['run', scenario, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
// A terminal sends Ctrl-C to both; anything else reaches only this process and is passed on.
process.on('SIGINT', () => {});
for (const name of ['SIGTERM', 'SIGHUP']) process.on(name, () => child.kill(name));
child.on('error', (error) => {
  console.error(`hostloom: ${error.message}`);
  process.exit(1);
});
child.on('close', (code, signal) => {
  const status = code ?? (signal ? 130 : 1);
  // Somebody sits before it, and the run came to its end: the same host stays up with its dashboard until Ctrl-C.
  if (!process.stdout.isTTY || signal || status > 2) process.exit(status);
  console.error('hostloom: the same host stays up to be looked at; Ctrl-C ends it');
  const up = spawn(`${root}bin/hostloom`, ['up', scenario], { cwd: root, stdio: 'inherit' });
  for (const name of ['SIGTERM', 'SIGHUP']) process.on(name, () => up.kill(name));
  up.on('close', () => process.exit(status));
});
