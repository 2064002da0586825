// The experiment `lock-contention`: what one hold of the p2m lock costs others, by operation, size, batch and number of vCPUs. Writes
// docs/lock-contention.md with its charts, and a run directory with report.html and lockprof.txt; prints the answer, or with
// --json everything. `--bound-us N`: what the others' 99th percentile must stay below.
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { experimentCharts, experimentMarkdown, renderExperiment } from '#report/experiment-page';
import { RunDirectory } from '#report/run-directory';
import { Measuring } from './contention/measure.ts';
import { experimentOf, measureAll } from './contention/plan.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const json = process.argv.includes('--json');
const at = process.argv.indexOf('--bound-us');
const boundUs = at < 0 ? 50 : Number(process.argv[at + 1]);
if (!(boundUs > 0)) {
  console.error('--bound-us wants a number of microseconds above 0');
  process.exit(64);
}
const command = at < 0 ? 'hostloom bench lock-contention' : `npm run bench -- lock-contention --bound-us ${boundUs}`;

const began = new Date();
const start = performance.now();
const measuring = new Measuring();
const measured = await measureAll(measuring, (what) => {
  if (!json) console.error(`lock-contention: ${what}`);
});
await measuring.bed.end();
if (measuring.bed.violations > 0) throw new Error(`${measuring.bed.violations} invariants were violated`);
const seconds = (performance.now() - start) / 1000;

const facts = [
  `${began.toISOString()}, ${seconds.toFixed(0)} s`,
  `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? '?'}, load average ${loadavg()
    .map((n) => n.toFixed(2))
    .join(' ')} at the end`,
];
const page = experimentOf(measured, boundUs * 1000, command, facts);
const run = await RunDirectory.create(`${root}runs`, 'lock-contention', began);
await run.writeReport(renderExperiment(page));
for (const { profile } of measured.locks) await run.writeLockProfile(profile); // the last: whole operations
await run.close();
const generator = `Written by \`${command}\`: run it again instead of editing.`;
writeFileSync(`${root}docs/lock-contention.md`, experimentMarkdown(page, generator));
for (const { file, text } of experimentCharts(page)) writeFileSync(`${root}docs/${file}`, text);

if (json)
  process.stdout.write(
    `${JSON.stringify({ ...page, measured: { ...measured, undisturbed: [...measured.undisturbed] } })}\n`,
  );
else {
  process.stdout.write(`${page.question}\n\n${[page.verdict, ...page.answer].join('\n\n')}\n\n`);
  process.stdout.write(`report   ${run.path}/report.html\ntables   docs/lock-contention.md\n`);
}
process.exit(0);
