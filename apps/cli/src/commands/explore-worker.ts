// `hostloom explore-worker`: takes shares of searches by chance from a queue, on this machine, until it is told to stop; and the other
// end, which splits a search into such shares and puts the answers together. Which test and which seeds is all that travels.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mergeReports } from '#explore/campaign';
import type { TestFacts } from '#explore/jobs';
import { runExplorer } from '#explore/session';
import type { SearchOptions, VariantReport } from '#explore/variant-search';
import { type ControlClient, NobodyTook, openControl, RequestFailed, serveControl } from '#wire/control';
import { endpointOf } from '#wire/environment';
import { EXPLORERS, type ExploreAnswer, type ExploreShare, exploreControl } from '#wire/explore-messages';
import { connect } from '#wire/redis-server';
import { CommandError, EXIT_OK, EXIT_UNKNOWN, EXIT_USAGE } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import { findLitmus, type LitmusFile } from './litmus-file.ts';

/** A worker that is there takes a share within this time. */
const TAKEN_MS = 15_000;
const STARTING_SECONDS = 60;

const digestOf = (file: LitmusFile): string => createHash('sha256').update(readFileSync(file.path)).digest('hex');

function redisAt(given: string | undefined) {
  const where = given ?? process.env.REDIS_URL;
  if (where === undefined)
    throw new CommandError('no Redis server is named', 'give --redis URL, or set REDIS_URL', EXIT_USAGE);
  return connect(endpointOf({ HOSTLOOM_REDIS: where }));
}

/** Until `signal`. One share at a time: a share uses its cores by itself. */
export async function exploreWorkerCommand(
  { redis }: { readonly redis?: string },
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const connection = redisAt(redis);
  const handler = async (share: ExploreShare): Promise<ExploreAnswer> => {
    output.milestone(`${share.litmus}: seeds ${share.firstSeed} to ${share.firstSeed + share.seeds - 1}`);
    return explored(share, signal);
  };
  const server = await serveControl({ connection, hostId: EXPLORERS, control: exploreControl, handler });
  output.milestone('waiting for shares of a search; Ctrl-C ends it');
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await server.close();
  connection.disconnect();
  return EXIT_OK;
}

async function explored(share: ExploreShare, signal: AbortSignal): Promise<ExploreAnswer> {
  const file = findLitmus(share.litmus);
  if (digestOf(file) !== share.digest)
    throw new Error(`${share.litmus} is not the same file here: bring both clones to one version`);
  const { scheduler, firstSeed, seeds, depth, states, seconds } = share;
  const limits = { schedules: Number.MAX_SAFE_INTEGER, seconds };
  const options: SearchOptions = { scheduler, bound: 0, reduce: true, firstSeed, seeds, depth, states, limits };
  const reports: VariantReport[] = [];
  let facts: TestFacts | null = null;
  await runExplorer(
    { ...file, job: { is: 'search', variants: share.variants, options } },
    (message) => {
      if (message.is === 'facts') facts = message.facts;
      else if (message.is === 'variant') reports.push(message.report);
    },
    signal,
  );
  const { title, source, variants } = facts as unknown as TestFacts; // told before anything else
  return { title, source, variants: [...variants], reports: reports.map((report) => ({ ...report })) };
}

export interface SharedSearch {
  readonly file: LitmusFile;
  readonly variants: readonly string[] | null;
  readonly options: SearchOptions;
  readonly redis: string;
  readonly shares: number;
}

/** The reports of all shares as one. */
export async function searchByWorkers(
  { file, variants, options, redis, shares }: SharedSearch,
  output: Output,
): Promise<{ readonly title: string; readonly source: string; readonly reports: readonly VariantReport[] }> {
  if (options.scheduler === 'exhaustive')
    throw new CommandError('an exhaustive search is not split', 'add --seeds N, or leave --redis away', EXIT_USAGE);
  const connection = redisAt(redis);
  const client = await openControl(connection, EXPLORERS, exploreControl);
  const { scheduler, depth, states, limits } = options;
  const { seconds } = limits;
  const share = (firstSeed: number, seeds: number): ExploreShare => ({
    litmus: file.shownPath,
    digest: digestOf(file),
    variants: variants === null ? null : [...variants],
    scheduler,
    firstSeed,
    seeds,
    depth,
    states,
    seconds,
  });
  try {
    // Is anybody there, and has the same test? The answer of one seed is not kept.
    const { title, source, variants: all } = await ask(client, share(options.firstSeed, 1), TAKEN_MS);
    const size = Math.ceil(options.seeds / shares);
    const longest = (seconds * all.length + STARTING_SECONDS) * 1000 * shares;
    let done = 0;
    const answers = await Promise.all(
      Array.from({ length: shares }, async (_, i) => {
        const first = options.firstSeed + i * size;
        const seeds = Math.max(0, Math.min(size, options.firstSeed + options.seeds - first));
        const answer = await ask(client, share(first, seeds), longest);
        output.progress(`${++done} of ${shares} shares are done`);
        return answer;
      }),
    );
    const names = variants ?? all;
    const of = (name: string): VariantReport[] =>
      answers.flatMap(({ reports }) => reports.filter(({ variant }) => variant === name)) as unknown as VariantReport[]; // a worker's own
    return { title, source, reports: names.map((name) => mergeReports(of(name))) };
  } finally {
    await client.close();
    connection.disconnect();
  }
}

async function ask(
  client: ControlClient<ExploreShare, ExploreAnswer>,
  share: ExploreShare,
  takenMs: number,
): Promise<ExploreAnswer> {
  try {
    return await client.request(share, takenMs, Math.max(takenMs, (share.seconds * 64 + STARTING_SECONDS) * 1000));
  } catch (error) {
    if (error instanceof NobodyTook)
      throw new CommandError(
        'no explore-worker takes anything',
        'start `hostloom explore-worker --redis URL` on each machine',
        EXIT_UNKNOWN,
      );
    if (error instanceof RequestFailed)
      throw new CommandError(`a worker could not: ${error.message}`, 'see its messages', EXIT_UNKNOWN);
    throw error;
  }
}
