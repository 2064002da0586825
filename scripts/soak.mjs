// `npm run soak`: every twin of every scenario, many times (SOAK_RUNS, 20). A buggy twin must violate its invariant in every
// run, a fixed one never; the runner judges each run by the scenario's own assertions. Prints a table; exit 1 if any run failed.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const runs = Number(process.env.SOAK_RUNS ?? 20);
const wanted = process.argv.slice(2);
const scenarios =
  wanted.length > 0
    ? wanted
    : readdirSync(`${root}/scenarios`)
        .filter((f) => f.endsWith('.yaml'))
        .map((f) => `scenarios/${f}`);
const tally = new Map();
for (const scenario of scenarios) {
  for (let run = 1; run <= runs; run++) {
    const started = Date.now();
    const r = spawnSync(`${root}/bin/hostloom`, ['run', scenario, '--json'], {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    let result;
    try {
      result = JSON.parse(r.stdout);
    } catch {
      console.error(`${scenario} run ${run}: no result (status ${r.status})\n${r.stderr.slice(-2000)}`);
      tally.set(`${scenario} (no result)`, { ok: 0, runs: 1 });
      continue;
    }
    for (const twin of result.twins) {
      const key = `${scenario} ${twin.name} (${twin.kind})`;
      const entry = tally.get(key) ?? { ok: 0, runs: 0 };
      entry.runs++;
      if (twin.verdict === 'pass') entry.ok++;
      else
        console.error(
          `${key} run ${run}: ${twin.verdict}`,
          JSON.stringify(twin.assertions.filter((a) => a.ok !== true)),
        );
      tally.set(key, entry);
    }
    console.error(`${scenario} ${run}/${runs}: ${result.verdict} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  }
}
let bad = 0;
for (const [key, { ok, runs: n }] of tally) {
  if (ok < n) bad++;
  console.log(`${ok === n ? 'ok  ' : 'FAIL'} ${String(ok).padStart(3)}/${n}  ${key}`);
}
process.exit(bad > 0 || tally.size === 0 ? 1 : 0);
