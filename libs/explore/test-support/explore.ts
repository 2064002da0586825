// Explores a litmus test from a spec, and gives back what was told.
import { fileURLToPath } from 'node:url';
import type { FromExplorer, Job } from '../src/jobs.ts';
import { runExplorer } from '../src/session.ts';
import type { SearchOptions, VariantReport } from '../src/variant-search.ts';

export const fixture = (name: string): string => fileURLToPath(new URL(`./litmus/${name}.ts`, import.meta.url));
export const shipped = (name: string): string => fileURLToPath(new URL(`../../../litmus/${name}.ts`, import.meta.url));

export const defaults: SearchOptions = {
  scheduler: 'exhaustive',
  bound: 2,
  reduce: true,
  firstSeed: 1,
  seeds: 2000,
  depth: 2,
  states: true,
  limits: { schedules: 1_000_000, seconds: 60 },
};

export async function told(path: string, job: Job): Promise<FromExplorer[]> {
  const messages: FromExplorer[] = [];
  await runExplorer({ path, shownPath: 'test.ts', job }, (message) => messages.push(message));
  return messages;
}

export async function search(
  path: string,
  options: Partial<SearchOptions> = {},
  variants: string[] | null = null,
): Promise<VariantReport[]> {
  const messages = await told(path, { is: 'search', variants, options: { ...defaults, ...options } });
  return messages.flatMap((m) => (m.is === 'variant' ? [m.report] : []));
}
