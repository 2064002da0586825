// `npm run bench [WHAT…]`: runs the benchmarks one after the other, prints the table and writes it to bench/results/ as JSON and
// Markdown. Ratios are measured in one run against a yardstick of that run: this says nothing of another machine. WHAT: part of
// a script's name. Exit 1 if a bound is not held. The experiments, each run by its own name alone, write a page of their own instead.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BenchRow } from './row.ts';

const scripts = ['walk', 'hypercalls', 'host-scale', 'boot-host', 'explore'];
const experiments = ['lock-contention', 'lending'];
// This file runs from bench/ or from dist/bench/; the scripts always from source (one of them compiles walk.c beside it).
const here = fileURLToPath(new URL('..', import.meta.url));
const root = existsSync(`${here}/package.json`) ? here : fileURLToPath(new URL('../..', import.meta.url));

const argv = process.argv.slice(2);
const json = argv.includes('--json');
const wanted = argv.filter((a) => !a.startsWith('-'));
const experiment = experiments.find((name) => wanted[0] !== undefined && name.startsWith(wanted[0]));
if (experiment !== undefined) {
  const entry = `${root}/bench/${experiment}.ts`;
  const rest = argv.slice(argv.indexOf(wanted[0] as string) + 1);
  const options = json && !rest.includes('--json') ? [...rest, '--json'] : rest;
  process.exit(
    spawnSync(process.execPath, ['--conditions=source', entry, ...options], { cwd: root, stdio: 'inherit' }).status ??
      1,
  );
}
const chosen = scripts.filter((name) => wanted.length === 0 || wanted.some((w) => name.includes(w)));
if (chosen.length === 0) {
  console.error(`no benchmark is called ${wanted.join(', ')}: there are ${[...scripts, ...experiments].join(', ')}`);
  process.exit(64);
}

function run(name: string): Promise<BenchRow[]> {
  if (!json) console.error(`bench: ${name}`);
  const child = spawn(process.execPath, ['--conditions=source', `${root}/bench/${name}.ts`], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const rows: BenchRow[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => rows.push(JSON.parse(line) as BenchRow)); // row.ts prints them
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve(rows) : reject(new Error(`${name} ended with status ${code}`)),
    );
  });
}

const holds = ({ bound, value, hold }: BenchRow): boolean =>
  hold === null || (bound === 'at least' ? value >= hold : value <= hold);
const figure = (n: number, unit: string): string =>
  `${n < 10 ? n.toFixed(2) : n.toFixed(0)}${unit === 'ratio' ? '×' : ` ${unit}`}`;

function cells(row: BenchRow): string[] {
  const { value, unit, hold, bound, spread, runs, detail } = row;
  const limit = hold === null ? 'reported' : `${bound === 'at least' ? '≥' : '≤'} ${figure(hold, unit)}`;
  const parts = Object.entries(detail).map(([k, v]) => `${k} ${typeof v === 'number' ? Math.round(v * 100) / 100 : v}`);
  return [
    String(row.row),
    row.name,
    `**${figure(value, unit)}**`,
    limit,
    hold === null ? '–' : holds(row) ? 'yes' : '**no**',
    `${runs}: ${figure(spread[0], unit)} … ${figure(spread[1], unit)}`,
    parts.join(', '),
  ];
}

const rows: BenchRow[] = [];
for (const name of chosen) rows.push(...(await run(name)));
rows.sort((a, b) => a.row - b.row);
const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim();
const about = {
  date: new Date().toISOString(),
  commit,
  node: process.version,
  cpu: cpus()[0]?.model ?? '?',
  cores: cpus().length,
  loadAverage: loadavg().map((n) => Math.round(n * 100) / 100),
};
const head = ['row', 'what', 'median', 'hold', 'held', 'runs, spread', 'measured'];
const table = [head, head.map(() => '---'), ...rows.map(cells)].map((r) => `| ${r.join(' | ')} |`).join('\n');
const text = `# Benchmarks

Written by \`npm run bench\` on ${about.date} at commit ${commit}: Node ${about.node}, ${about.cores} × ${about.cpu}, load average
${about.loadAverage.join(' ')} at the end. Ratios compare with a yardstick measured in the same run.

${table}
`;
if (wanted.length === 0) {
  mkdirSync(`${root}/bench/results`, { recursive: true });
  writeFileSync(`${root}/bench/results/latest.json`, `${JSON.stringify({ about, rows }, null, 2)}\n`);
  writeFileSync(`${root}/bench/results/latest.md`, text);
}
process.stdout.write(json ? `${JSON.stringify({ about, rows })}\n` : text);
process.exitCode = rows.every(holds) ? 0 : 1;
