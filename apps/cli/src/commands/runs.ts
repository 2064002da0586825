// `hostloom runs list|prune`: the run directories that earlier runs left.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { RunDirectory } from '#report/run-directory';
import { shown } from '../runner/scenario-run.ts';
import type { Output } from '../terminal.ts';

const NAME_WIDTH = 26;

export interface RunsOptions {
  readonly runsDir?: string;
}

const verdictFile = z.object({ verdict: z.string(), startedAt: z.string(), durationMs: z.number() });

export function runsListCommand({ runsDir = 'runs' }: RunsOptions, output: Output): number {
  const root = resolve(runsDir);
  const runs = directoriesIn(root).flatMap((scenario) =>
    directoriesIn(join(root, scenario)).map((stamp) => ({
      scenario,
      stamp,
      ...readVerdict(join(root, scenario, stamp)),
    })),
  );
  for (const { scenario, stamp, verdict, durationMs } of runs) {
    const took = durationMs === null ? '' : ` ${(durationMs / 1000).toFixed(1)} s`;
    output.line(
      `${scenario.padEnd(NAME_WIDTH)} ${verdict.padEnd(11)} ${shown(join(root, scenario, stamp), process.cwd())}${took}`,
    );
  }
  if (runs.length === 0) output.line(`no runs in ${shown(root, process.cwd())}`);
  output.json({ runs });
  return 0;
}

export async function runsPruneCommand(
  keep: number,
  { runsDir = 'runs' }: RunsOptions,
  output: Output,
): Promise<number> {
  const removed = await RunDirectory.prune(resolve(runsDir), keep);
  for (const path of removed) output.line(`removed ${shown(path, process.cwd())}`);
  output.line(
    `${removed.length} run${removed.length === 1 ? '' : 's'} removed; the newest ${keep} of each scenario are kept`,
  );
  output.json({ removed });
  return 0;
}

/** Without links (`latest`). */
function directoriesIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
      .sort();
  } catch {
    return []; // none yet
  }
}

function readVerdict(path: string): {
  readonly verdict: string;
  readonly startedAt: string | null;
  readonly durationMs: number | null;
} {
  try {
    return verdictFile.parse(JSON.parse(readFileSync(join(path, 'verdict.json'), 'utf8')));
  } catch {
    return { verdict: 'unfinished', startedAt: null, durationMs: null };
  }
}
