// The questions of the memory-lending thread (xen-devel, March 2026), answered by runs. `hostloom bench lending` asks all of them and
// writes docs/lending-answers.md; with names, those only, and nothing is written. --json: one object.
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Experiment, experimentMarkdown } from '#report/experiment-page';
import { type Answered, type Question, questions } from './lending/answers.ts';
import { Meter } from './lending/meter.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const json = process.argv.includes('--json');
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const chosen = questions.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
const strange = wanted.find((name) => !questions.some((q) => q.name === name));
if (strange !== undefined) {
  console.error(`no question is called ${strange}: there are ${questions.map(({ name }) => name).join(', ')}`);
  process.exit(64);
}

const began = new Date();
const start = performance.now();
const meter = new Meter();
const found: { readonly asked: Question; readonly answered: Answered }[] = [];
for (const asked of chosen) {
  if (!json) console.error(`lending: ${asked.name}`);
  found.push({ asked, answered: await asked.ask(meter) });
}
const seconds = (performance.now() - start) / 1000;
const commandOf = ({ name }: Question): string => `hostloom bench lending ${name}`;

const page: Experiment = {
  name: 'lending',
  question: 'Mapping non-pinned memory from one Xen domain into another: what runs say',
  verdict: found.every(({ answered }) => answered.passes ?? true)
    ? 'It can be done within what a notifier allows; what it costs is the way back of a page, not its removal.'
    : 'It does not hold what a notifier asks for, or its removal costs more than the way back of a page: see the rows.',
  answer: [
    'The questions are those of the thread of March 2026 on xen-devel, dri-devel and linux-mm. Each is answered by a run of the model: a hypervisor with lend and revoke as proposed there, a lender with Linux’s notifiers, a borrower. Nothing of it is merged in Xen.',
    'Times are modelled: each step of the model at the price of `docs/timed-costs.md`, in runs with several vCPUs each on a CPU of its own (virtual time). They are orders of magnitude and the same on every machine; a conclusion that turns on a factor of two is not one they can give.',
  ],
  command: 'hostloom bench lending',
  facts: [
    `${began.toISOString()}, ${seconds.toFixed(0)} s`,
    `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? '?'}, load average ${loadavg()
      .map((n) => n.toFixed(2))
      .join(' ')} at the end`,
  ],
  sections: [
    {
      heading: 'In short',
      paragraphs: [],
      tables: [
        {
          caption: '',
          head: ['question', 'positions', 'what the run says', 'again'],
          rows: found.map(({ asked, answered }) => [
            asked.question,
            asked.positions,
            answered.short,
            `\`${commandOf(asked)}\``,
          ]),
        },
      ],
    },
    ...found.map(({ asked, answered }) => ({
      heading: asked.question,
      paragraphs: [`Positions: ${asked.positions}.`, answered.answer, `Again: \`${commandOf(asked)}\``],
      tables: answered.tables,
    })),
  ],
};
if (wanted.length === 0) {
  const generator = 'Written by `hostloom bench lending`: run it again instead of editing.';
  writeFileSync(`${root}docs/lending-answers.md`, experimentMarkdown(page, generator));
}
if (json) process.stdout.write(`${JSON.stringify(page)}\n`);
else {
  for (const { asked, answered } of found) {
    process.stdout.write(`${asked.question}\n  ${answered.answer}\n`);
    for (const { head, rows } of answered.tables) {
      for (const row of [head, ...rows]) process.stdout.write(`    ${row.join(' | ')}\n`);
    }
    process.stdout.write(`  again: ${commandOf(asked)}\n\n`);
  }
}
process.exit(0);
