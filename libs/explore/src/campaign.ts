// A search by chance, spread over several explorations with seeds of their own. Their reports become one.
import type { ExplorerData, FromExplorer } from './jobs.ts';
import { runExplorer } from './session.ts';
import type { Counterexample, VariantReport } from './variant-search.ts';

/** Each of `workers` explorations has its own threads and its own share of the seeds. */
export async function campaign(
  data: ExplorerData,
  workers: number,
  onMessage: (message: FromExplorer) => void,
  signal: AbortSignal,
): Promise<void> {
  const { job } = data;
  if (workers <= 1 || job.is !== 'search' || job.options.scheduler === 'exhaustive')
    return runExplorer(data, onMessage, signal);
  const share = Math.ceil(job.options.seeds / workers);
  const reports = new Map<string, VariantReport[]>();
  const take = (worker: number, message: FromExplorer): void => {
    if (message.is !== 'variant') {
      if (worker === 0) onMessage(message);
      return;
    }
    const of = [...(reports.get(message.report.variant) ?? []), message.report];
    reports.set(message.report.variant, of);
    if (of.length === workers) onMessage({ is: 'variant', report: mergeReports(of) });
  };
  await Promise.all(
    Array.from({ length: workers }, (_, worker) => {
      const firstSeed = job.options.firstSeed + worker * share;
      const seeds = Math.max(0, Math.min(share, job.options.firstSeed + job.options.seeds - firstSeed));
      const own: ExplorerData = { ...data, job: { ...job, options: { ...job.options, firstSeed, seeds } } };
      return runExplorer(own, (message) => take(worker, message), signal);
    }),
  );
}

const shorter = (a: Counterexample, b: Counterexample): number => a.preemptions - b.preemptions || a.steps - b.steps;

/** Of one variant, one at least. `distinct` is a lower bound then: what two of them saw may be the same. */
export function mergeReports(reports: readonly VariantReport[]): VariantReport {
  const first = reports[0] as VariantReport; // there is one for each worker
  const found = reports
    .flatMap(({ counterexample }) => (counterexample === null ? [] : [counterexample]))
    .toSorted(shorter);
  const broken: Record<string, number> = {};
  for (const report of reports) {
    for (const [name, n] of Object.entries(report.broken)) broken[name] = (broken[name] ?? 0) + n;
  }
  const decisive = reports.find(({ counterexample }) => counterexample !== null) ?? first;
  const finders = reports.filter((report) => report.first > 0);
  return {
    ...decisive,
    counterexample: found[0] ?? null,
    broken,
    schedules: reports.reduce((sum, { schedules }) => sum + schedules, 0),
    distinct: Math.max(...reports.map(({ distinct }) => distinct)),
    first: finders.length === 0 ? 0 : Math.min(...finders.map((report) => report.first)),
    longest: Math.max(...reports.map(({ longest }) => longest)),
    seconds: Math.max(...reports.map(({ seconds }) => seconds)),
  };
}
