// `npm start`: the main scenario, after set-up and build. Prints verdict and report path; exits with the verdict's status.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const scenario = process.argv[2] ?? 'scenarios/pod-gpu-dma.yaml';
const child = spawn(
  fileURLToPath(new URL('../bin/hostloom', import.meta.url)),
  ['run', scenario, ...process.argv.slice(3)],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
// Ctrl-C reaches the whole group; a signal to this process alone is passed on. The launcher then ends everything it started.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  if (signal) process.kill(process.pid, signal);
  else process.exit(code ?? 1);
});
