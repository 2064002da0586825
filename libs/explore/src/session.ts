// One exploration as the main thread sees it: starts the coordinating thread, hands on what it tells, and ends everything when a
// step does not come back or the user has had enough.
import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { Control, runState, word } from './control.ts';
import type { ExplorerData, FromExplorer, Mistake, TestFacts } from './jobs.ts';
import { describeKind } from './step-kinds.ts';
import { execArgvFor } from './thread-options.ts';

/** No step for so long, inside a schedule and outside of one. */
const STUCK_MS = 5000;
const SILENT_MS = 60_000;
const LOOK_MS = 250;

/** The exploration ended without what was asked for. */
export class ExplorerFailed extends Error {
  override readonly name = 'ExplorerFailed';
  readonly mistake: Mistake;

  constructor(mistake: Mistake) {
    super(mistake.message);
    this.mistake = mistake;
  }
}

/** Runs from dist/ and from the sources; bundled into a program, the threads are still those of dist/. */
function threadEntry(): URL {
  const beside = new URL('./explorer-thread.ts', import.meta.url);
  return import.meta.url.endsWith('.ts') && existsSync(beside)
    ? beside
    : new URL(import.meta.resolve('#explore/explorer-thread'));
}

/** Settles when the job is done; throws ExplorerFailed, or what `signal` was aborted with. */
export async function runExplorer(
  data: ExplorerData,
  onMessage: (message: FromExplorer) => void,
  signal?: AbortSignal,
): Promise<void> {
  const entry = threadEntry();
  const worker = new Worker(entry, { workerData: data, stdin: false, execArgv: execArgvFor(entry) });
  let facts: TestFacts | null = null;
  const watch: { control: Control | null } = { control: null };
  try {
    await new Promise<void>((resolve, reject) => {
      const stop = watchBeat(
        watch,
        (message) => reject(new ExplorerFailed(message)),
        () => facts,
      );
      const settle = (end: () => void) => (): void => {
        stop();
        end();
      };
      worker.on('message', (message: FromExplorer) => {
        if (message.is === 'control') watch.control = new Control(message.control);
        else if (message.is === 'facts') facts = message.facts;
        if (message.is === 'mistake') settle(() => reject(new ExplorerFailed(message.mistake)))();
        else if (message.is === 'done') settle(resolve)();
        else onMessage(message);
      });
      worker.once('error', (error) => settle(() => reject(error))());
      worker.once('exit', () => settle(() => reject(new Error('the exploring thread ended')))());
      signal?.addEventListener('abort', () => settle(() => reject(signal.reason))(), { once: true });
    });
  } finally {
    // Its own threads end with it.
    await worker.terminate();
  }
}

/** Looks now and then whether steps are taken. */
function watchBeat(
  watch: { readonly control: Control | null },
  stuck: (mistake: Mistake) => void,
  facts: () => TestFacts | null,
): () => void {
  let last = '';
  let since = performance.now();
  const timer = setInterval(() => {
    const { control } = watch;
    const now = control === null ? '' : [word.schedules, word.events, word.run].map((at) => control.get(at)).join();
    if (now !== last) {
      last = now;
      since = performance.now();
      return;
    }
    const inside = control !== null && control.get(word.run) === runState.running;
    if (performance.now() - since < (inside ? STUCK_MS : SILENT_MS)) return;
    const who = control === null ? undefined : facts()?.actors[control.get(word.current)];
    const seconds = Math.round((performance.now() - since) / 1000);
    const message = inside
      ? `${who ?? 'an actor'} has run for ${seconds} s without a step, ${afterWhat(control)}: it loops`
      : `the exploration has not moved for ${seconds} s`;
    stuck({
      message,
      remedy: 'an actor must end, and take a step in every loop that waits for something',
      exitCode: 2,
    });
  }, LOOK_MS);
  return () => clearInterval(timer);
}

function afterWhat(control: Control): string {
  const events = control.get(word.events);
  if (events === 0) return 'before its first one';
  return `after ${events} steps, the last one ${describeKind((control.eventKinds[events - 1] as number) & 255)}`;
}
