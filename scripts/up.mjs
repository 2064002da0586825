// `npm start`, after set-up and build: plays the main scenario and says where the report is. The command prints the verdict; this
// script hands over to it, so that Ctrl-C and the exit status are its own.
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
child.on('close', (code, signal) => process.exit(code ?? (signal ? 130 : 1)));
