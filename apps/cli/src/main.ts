// The `hostloom` command: its verbs, options and exit statuses. Everything a verb does is under commands/; here is only what is
// common to all: Ctrl-C, errors as one readable message, the status the process ends with.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { benchCommand } from './commands/bench.ts';
import { type BenchAdvisoriesFlags, benchAdvisoriesCommand } from './commands/bench-advisories.ts';
import { realCommand, vectorsCommand } from './commands/conformance.ts';
import { doctorCommand } from './commands/doctor.ts';
import { type ExplainFlags, explainCommand } from './commands/explain.ts';
import { type ExploreFlags, exploreCommand } from './commands/explore.ts';
import { exploreWorkerCommand } from './commands/explore-worker.ts';
import { hostImportCommand } from './commands/host-import.ts';
import { INSPECT_KINDS, type InspectFlags, inspectCommand } from './commands/inspect/inspect.ts';
import { preflightCommand } from './commands/preflight.ts';
import { replayCommand } from './commands/replay.ts';
import { runCommand } from './commands/run.ts';
import { runsListCommand, runsPruneCommand } from './commands/runs.ts';
import { type UpOptions, upCommand } from './commands/up.ts';
import { xlCommand } from './commands/xl.ts';
import { CommandError, describeError, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE } from './exit-codes.ts';
import { repositoryRoot } from './repository.ts';
import { TerminalOutput } from './terminal.ts';

const DEFAULT_KEEP = 10;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const STATUS_HELP = `
Exit status: 0 pass or done, 1 fail, 2 unknown (a time ran out, a process died), 64 wrong usage or a mistake in a file,
130 ended by Ctrl-C.`;

/** Whoever ended the command early; not an error. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

const aborter = new AbortController();
const { signal } = aborter;
let status: number = EXIT_OK;

function wholeNumber(text: string): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 1) throw new InvalidArgumentError('a whole number from 1 on is needed');
  return n;
}

const version = (): string =>
  (JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8')) as { readonly version: string }).version; // our own file

function program(): Command {
  const top = new Command('hostloom')
    .description(
      "A Xen host's memory plane as separate processes: will this configuration break, and does the fix hold?",
    )
    .version(version())
    .addHelpText('after', STATUS_HELP)
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`hostloom: ${text.replace(/^error: /, '')}`) });
  addRun(top);
  addUp(top);
  addXl(top);
  addRuns(top);
  addPreflight(top);
  addHost(top);
  addConformance(top);
  addInspect(top);
  addExplain(top);
  addExplore(top);
  addExploreWorker(top);
  addReplay(top);
  top
    .command('doctor')
    .description('what this machine has, and what is missing for what')
    .option('--json', 'one JSON object on standard output')
    .action(({ json = false }: { json?: boolean }) => {
      status = doctorCommand(new TerminalOutput({ json }));
    });
  const bench = top
    .command('bench')
    .description('measure, as ratios to a yardstick of the same run')
    .argument('[what...]', 'some of the rows only; or an experiment, which writes its page: lock-contention, lending')
    .option('--json', 'one JSON object on standard output')
    .action(async (what: string[], { json = false }: { json?: boolean }) => {
      status = await benchCommand(what, json, signal);
    });
  addBenchAdvisories(bench);
  return top;
}

function addRun(top: Command): void {
  top
    .command('run')
    .description('play a scenario with all its twins, print the verdict, write a report')
    .argument('<scenario>', 'a file, such as scenarios/pod-gpu-dma.yaml')
    .option('--twin <name>', 'only this twin (and those it is compared with)')
    .option('--attempts <n>', "instead of the scenario's number", wholeNumber)
    .option('--runs-dir <dir>', 'where run directories are made', 'runs')
    .option('--keep', "leave the host of the last twin (of --twin's) up for `hostloom xl`, until Ctrl-C")
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', STATUS_HELP)
    .action(
      async (
        file: string,
        {
          json = false,
          ...options
        }: { json?: boolean; twin?: string; attempts?: number; runsDir?: string; keep?: boolean },
      ) => {
        status = await runCommand(file, options, new TerminalOutput({ json }), signal);
      },
    );
}

function addUp(top: Command): void {
  top
    .command('up')
    .description(
      'start a host and keep it up until Ctrl-C (which is how it ends well, with status 0); speak to it with `hostloom xl`',
    )
    .argument('[file]', 'a host or a scenario (default: hosts/seed-2014-haswell.yaml)')
    .option('--logs <dir>', 'keep the logs of its processes here')
    .option('--no-dashboard', 'without the page that shows it live')
    .option('--port <n>', 'of the dashboard (default: any free one)', wholeNumber)
    .option('--bind <address>', 'of the dashboard, if not this machine only; everything needs the token then')
    .option('--json', 'one JSON object on standard output, once it is up')
    .action(async (file: string | undefined, { json = false, ...options }: UpOptions & { json?: boolean }) => {
      status = await upCommand(file, options, new TerminalOutput({ json }), signal);
    });
}

function addXl(top: Command): void {
  top
    .command('xl')
    .description('an xl verb for a running host: list, info, create, destroy, reboot, mem-set, mem-max, dmesg, pci-…')
    .argument('<verb...>', 'the verb and its arguments, as xl takes them')
    .option('--host <id>', 'which host, when several run: its id, or how it begins')
    .option('--json', 'raw figures (list, info)')
    .helpOption('--help', 'this text')
    .passThroughOptions()
    .allowUnknownOption()
    .action(async (words: string[], { json = false, ...options }: { json?: boolean; host?: string }) => {
      status = await Promise.race([xlCommand(words, { json, ...options }), interrupted()]);
    });
}

function addRuns(top: Command): void {
  const runs = top.command('runs').description('the directories that earlier runs left');
  runs
    .command('list')
    .description('every run with its verdict')
    .option('--runs-dir <dir>', 'where they are', 'runs')
    .option('--json', 'one JSON object on standard output')
    .action(({ json = false, ...options }: { json?: boolean; runsDir?: string }) => {
      status = runsListCommand(options, new TerminalOutput({ json }));
    });
  runs
    .command('prune')
    .description('remove old runs; those still running and `latest` stay')
    .option('--keep <n>', 'how many of each scenario to keep', wholeNumber, DEFAULT_KEEP)
    .option('--runs-dir <dir>', 'where they are', 'runs')
    .option('--json', 'one JSON object on standard output')
    .action(async ({ json = false, keep, ...options }: { json?: boolean; keep: number; runsDir?: string }) => {
      status = await runsPruneCommand(keep, options, new TerminalOutput({ json }));
    });
}

function addInspect(top: Command): void {
  top
    .command('inspect')
    .description('read a file of a real machine: its ACPI tables, boot log, PCI listing, or a guest configuration')
    .argument('<kind>', INSPECT_KINDS.join(', '))
    .argument('<file>', 'for dmar and ivrs: the table, the text of acpidump, or a .dsl with its raw table data')
    .option('--lspci <file>', 'an lspci of the same machine (-vv or more), to resolve device paths over bridges')
    .option('--dmesg <file>', 'a boot log of the same machine, for its memory map')
    .option('--dmar <file>', 'for e820: the DMAR table of the same machine, for its reserved regions')
    .option('--json', 'one JSON object on standard output')
    .action(async (kind: string, file: string, { json = false, ...flags }: InspectFlags & { json?: boolean }) => {
      status = await Promise.race([inspectCommand(kind, file, flags, new TerminalOutput({ json })), interrupted()]);
    });
}

function addExplain(top: Command): void {
  top
    .command('explain')
    .description('why Xen, Linux, QEMU or a toolstack printed a line about a fault or a refusal, and what to do')
    .argument('<line...>', "the line in quotes, or several; `-' reads them from standard input")
    .option('--host <file>', 'the host, as in hosts/*.yaml; or what is known of the machine:')
    .option('--dmar <file>', 'its DMAR table')
    .option('--ivrs <file>', 'its IVRS table')
    .option('--dmesg <file>', 'its boot log, of Linux or Xen')
    .option('--lspci <file>', 'its lspci -vvv')
    .option('--cfg <file>', "the guest's xl.cfg, to classify the address in the guest as well")
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', '\nExit status: 0 explained, 1 no line understood, 64 wrong usage or a mistake in a file.')
    .action(async (lines: string[], { json = false, ...flags }: ExplainFlags & { json?: boolean }) => {
      status = await Promise.race([explainCommand(lines, flags, new TerminalOutput({ json })), interrupted()]);
    });
}

const EXPLORE_HELP = `
Exit status: 0 every variant does what its test expects, 1 some do not, 2 no verdict (an actor loops, throws or is not
deterministic), 64 wrong usage or a mistake in the test. docs/litmus.md says how to write one.`;

function schedulerName(text: string): 'exhaustive' | 'random' | 'pct' | 'timed' {
  if (text === 'exhaustive' || text === 'random' || text === 'pct' || text === 'timed') return text;
  throw new InvalidArgumentError('there are exhaustive, random, pct and timed');
}

function bound(text: string): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 0 || n > 9)
    throw new InvalidArgumentError('a whole number from 0 to 9 is needed');
  return n;
}

function addBenchAdvisories(bench: Command): void {
  bench
    .command('advisories')
    .description('every row of litmus/advisories: is the bug found, is the fix silent? Writes docs/advisories.md')
    .option('--only <id>', 'one row, such as XSA-507; the page is left alone')
    .option('--teeth', 'leave one step of each fixed variant out at a time: does an invariant notice?')
    .option('--deep', 'three preemptions where that ends within a minute, and more time for everything')
    .option('--workers <n>', 'rows side by side (default: one a core)', wholeNumber)
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', '\nExit status: 0 every row holds, 1 some do not, 2 no verdict, 64 bad usage.')
    .action(async (_: BenchAdvisoriesFlags, command: Command) => {
      const { json = false, ...flags } = command.optsWithGlobals<BenchAdvisoriesFlags & { json?: boolean }>();
      status = await benchAdvisoriesCommand(flags, new TerminalOutput({ json }), signal);
    });
}

function addExplore(top: Command): void {
  top
    .command('explore')
    .description('drive a litmus test through every interleaving that matters: a proof, or the shortest that breaks it')
    .argument('<litmus>', 'a file, such as litmus/shatter.ts')
    .option('--variant <name...>', 'these variants only')
    .option(
      '--scheduler <name>',
      'exhaustive (default), random (default with --seeds), pct, or timed: once, in virtual time',
      schedulerName,
    )
    .option('--bound <n>', 'exhaustive: preemptions at most', bound, 2)
    .option('--no-reduction', 'exhaustive: every order, also of steps that cannot matter to each other')
    .option('--seeds <n>', 'random, pct: so many schedules', wholeNumber)
    .option('--first-seed <n>', 'random, pct: the first seed', wholeNumber, 1)
    .option('--depth <n>', 'pct: orderings that the bug needs', wholeNumber, 2)
    .option('--workers <n>', 'random, pct: explorations side by side (default: one a core)', wholeNumber)
    .option('--seconds <n>', 'for each variant', wholeNumber, 60)
    .option('--redis <url>', 'random, pct: split among the explore-workers of that server')
    .option('--shares <n>', 'with --redis: in so many shares', wholeNumber, 8)
    .option('--own-invariants', 'what the actors see only, not the state at the end: faster')
    .option('--fault-sweep', 'instead: let every step that can fail do so once')
    .option('--differential', 'instead: compare the answers under settings that no guest should notice')
    .option('--teeth', 'instead: leave one step of each variant that holds out at a time: does an invariant notice?')
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', EXPLORE_HELP)
    .action(async (file: string, { json = false, ...flags }: ExploreFlags & { json?: boolean }) => {
      status = await exploreCommand(file, flags, new TerminalOutput({ json }), signal);
    });
}

function addExploreWorker(top: Command): void {
  top
    .command('explore-worker')
    .description(
      'take shares of random explorations from a queue, until Ctrl-C: `hostloom explore … --seeds N --redis URL`',
    )
    .option('--redis <url>', 'the server of the queue (default: REDIS_URL)')
    .action(async (flags: { redis?: string }) => {
      status = await exploreWorkerCommand(flags, new TerminalOutput({ json: false }), signal);
    });
}

function addReplay(top: Command): void {
  top
    .command('replay')
    .description('one schedule again, step by step, from the string that `hostloom explore` printed')
    .argument('<string>', 'hl1:…')
    .option('--runs-dir <dir>', 'where run directories are made', 'runs')
    .option('--json', 'one JSON object on standard output')
    .addHelpText(
      'after',
      '\nExit status: 0 replayed, 2 no verdict, 64 a string that is damaged, of another version, or of a test that has changed.',
    )
    .action(async (text: string, { json = false, runsDir }: { json?: boolean; runsDir: string }) => {
      status = await replayCommand(text, runsDir, new TerminalOutput({ json }), signal);
    });
}

function addConformance(top: Command): void {
  top
    .command('conformance')
    .description('compare with Xen: golden vectors of its functions, or (--real) what a real Xen gave its guests')
    .argument('[dir]', 'a directory of golden vectors, such as test/vectors')
    .option('--real <file>', 'a guests.json: each guest is built and looked at')
    .option('--bug-compat', "Xen's behaviour to the letter, where it differs from what Xen documents")
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', STATUS_HELP)
    .action((dir: string | undefined, options: { real?: string; bugCompat?: boolean; json?: boolean }) => {
      const { real, bugCompat = false, json = false } = options;
      if ((dir === undefined) === (real === undefined)) {
        const remedy = 'hostloom conformance DIR, or hostloom conformance --real FILE';
        throw new CommandError('a directory or --real FILE is needed, and only one of them', remedy, EXIT_USAGE);
      }
      const output = new TerminalOutput({ json });
      if (real !== undefined) status = realCommand(real, { bugCompat }, output);
      else if (dir !== undefined) status = vectorsCommand(dir, { bugCompat }, output);
    });
}

const PREFLIGHT_HELP = `
Exit status: 0 clean, 1 blocked, 3 warnings only, 64 wrong usage or a file that cannot be read.
docs/preflight.md has the codes of the findings.`;

interface MachineFlags {
  readonly host?: string;
  readonly dmar?: string;
  readonly dmesg?: string;
  readonly lspci?: string;
  readonly name?: string;
}

/** Options that name the files of a real machine. */
const realMachine = (command: Command): Command =>
  command
    .option('--dmar <file>', 'firmware table: DMAR or IVRS, as a binary, acpidump text or iasl .dsl')
    .option('--dmesg <file>', "boot log of Linux or Xen, with the machine's memory map")
    .option('--lspci <file>', 'output of `lspci -vv` (or -v, -vvv, -nnk), best as root');

function addPreflight(top: Command): void {
  const command = top
    .command('preflight')
    .description('may these devices be given to these guests on this machine, and if not, why and what helps')
    .argument('[guest...]', "guests' xl.cfg files")
    .option('--host <file>', 'a host description, such as hosts/seed-2014-haswell.yaml');
  realMachine(command)
    .option('--full', 'all devices, and every line that Xen would print')
    .option('--write-scenario <dir>', 'write scenarios with this machine and these guests filled in')
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', PREFLIGHT_HELP)
    .action(
      (
        guests: string[],
        { json = false, ...options }: { json?: boolean; full?: boolean; writeScenario?: string } & MachineFlags,
      ) => {
        status = preflightCommand(guests, options, new TerminalOutput({ json }));
      },
    );
}

function addHost(top: Command): void {
  const host = top.command('host').description('descriptions of machines');
  realMachine(host.command('import').description("a real machine's files become a host description"))
    .option('--name <name>', 'its name (default: from the first file)')
    .option('-o, --output <file>', 'where to write it (default: standard output)')
    .option('--json', 'one JSON object on standard output')
    .action(({ json = false, ...options }: { json?: boolean; output?: string } & Omit<MachineFlags, 'host'>) => {
      status = hostImportCommand(options, new TerminalOutput({ json }));
    });
}

/** For commands that have nothing to end in order. */
function interrupted(): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** The first signal asks the command to end in order; the second ends it as it is (what it started is ended by its reaper). */
function listenToSignals(): void {
  for (const name of SIGNALS) {
    process.on(name, () => {
      if (signal.aborted) process.exit(EXIT_INTERRUPTED);
      aborter.abort(new Interrupted(`ended by ${name}`));
    });
  }
}

async function main(): Promise<number> {
  try {
    await program().parseAsync(process.argv);
    return status;
  } catch (error) {
    if (error instanceof Interrupted) return EXIT_INTERRUPTED;
    // Help and version are no mistakes.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    const { text, exitCode } = describeError(error);
    process.stderr.write(`${text}\n`);
    return exitCode;
  }
}

/** What was written to a pipe may still be on its way. */
const written = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((settle) => stream.write('', () => settle()));

/** A reader that has had enough (`| head`) ends the command quietly, as it does other programs. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(status);
});

listenToSignals();
const exitCode = await main();
await Promise.all([written(process.stdout), written(process.stderr)]);
// Connections that are still closing keep nobody waiting.
process.exit(exitCode);
