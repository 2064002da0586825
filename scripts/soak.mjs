// `npm run soak`: every twin of every scenario many times. A buggy twin must break in every run, a fixed one in none; whatever is
// neither (unknown) is counted too. Prints a table and ends 1 if anything was otherwise.
//
//   node scripts/soak.mjs [--times N] [scenario.yaml …]
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const DEFAULT_TIMES = 20;
const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals } = parseArgs({ allowPositionals: true, options: { times: { type: 'string' } } });
const times = Number(values.times ?? DEFAULT_TIMES);
if (!Number.isSafeInteger(times) || times < 1) {
  console.error('soak: --times needs a whole number from 1 on');
  process.exit(64);
}
const shipped = () =>
  readdirSync(join(root, 'scenarios'))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => join('scenarios', name));
const scenarios = positionals.length > 0 ? positionals : shipped();

const rows = new Map();
const runsDir = mkdtempSync(join(tmpdir(), 'hostloom-soak-'));
const keep = [];

for (let turn = 1; turn <= times; turn++) {
  for (const scenario of scenarios) {
    console.error(`soak: turn ${turn} of ${times}, ${scenario}`);
    const { stdout, signal } = spawnSync(`${root}bin/hostloom`, ['run', scenario, '--json', '--runs-dir', runsDir], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
      maxBuffer: 256 * 2 ** 20,
    });
    if (signal) process.exit(130);
    record(scenario, stdout);
  }
}

function record(scenario, stdout) {
  let result;
  try {
    result = JSON.parse(stdout);
  } catch {
    result = { twins: [{ name: '(the run itself)', kind: 'plain', verdict: 'unknown', violations: [], attempts: 0 }] };
  }
  for (const twin of result.twins) {
    const key = `${scenario} ${twin.name}`;
    const row = rows.get(key) ?? {
      scenario,
      name: twin.name,
      kind: twin.kind,
      pass: 0,
      fail: 0,
      unknown: 0,
      broken: 0,
      attempts: 0,
    };
    row[twin.verdict]++;
    if (twin.violations.some(({ count }) => count > 0)) row.broken++;
    row.attempts += twin.attempts;
    rows.set(key, row);
    if (twin.verdict !== 'pass' && result.directory) keep.push(result.directory);
  }
}

console.log(`${'twin'.padEnd(52)} ${'kind'.padEnd(6)} pass  fail  unknown  runs with a violation  attempts`);
for (const { scenario, name, kind, pass, fail, unknown, broken, attempts } of rows.values()) {
  const numbers = [pass, fail, unknown].map((n, i) => String(n).padStart([4, 6, 9][i]));
  console.log(
    `${`${scenario} ${name}`.padEnd(52)} ${kind.padEnd(6)}${numbers.join('')} ${`${broken} of ${times}`.padStart(22)} ${String(attempts).padStart(9)}`,
  );
}
const bad = [...rows.values()].filter(
  ({ kind, pass, broken }) => pass < times || (kind === 'buggy' && broken < times) || (kind === 'fixed' && broken > 0),
);
if (keep.length > 0) console.log(`runs that did not pass: ${[...new Set(keep)].join(' ')}`);
else rmSync(runsDir, { recursive: true, force: true });
console.log(
  bad.length === 0 ? `all twins did in ${times} of ${times} runs what they are for` : `${bad.length} twins did not`,
);
process.exit(bad.length === 0 ? 0 : 1);
