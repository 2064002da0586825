// What the activities of a twin's guests have counted, for the explanations that are about them.
import type { ActivityName } from '#model/guest/activity/spec';
import type { ReportTable } from '#report/verdict';
import { DOM0, type TwinState } from '../runner/twin-state.ts';

export const count = (n: number): string => Math.round(n).toLocaleString('en-US');

export interface Counted {
  readonly guest: string;
  readonly run: string;
  readonly attempts: number;
  readonly figures: Readonly<Record<string, number>>;
}

/** One for each activity that reported, dom0's first. */
export function countedOf({ observer, names }: TwinState): Counted[] {
  return observer
    .guests()
    .toSorted((a, b) => a.domid - b.domid)
    .flatMap(({ domid, activities }) =>
      [...activities.values()].map(({ id, attempts, figures }) => ({
        guest: domid === 0 ? DOM0 : (names.get(domid) ?? `d${domid}`),
        run: id,
        attempts,
        figures,
      })),
    );
}

export const find = (all: readonly Counted[], run: ActivityName): Counted | undefined =>
  all.find((one) => one.run === run && one.attempts + Object.values(one.figures).reduce((a, b) => a + b, 0) > 0);

export const figure = (one: Counted | undefined, name: string): number => one?.figures[name] ?? 0;

export function figuresTable(all: readonly Counted[]): ReportTable {
  return {
    caption: 'What the kernels counted',
    head: ['activity', 'what', 'times'],
    rows: all.flatMap(({ guest, run, figures }) =>
      Object.entries(figures).map(([name, times]) => [`${run} in ${guest}`, name, count(times)]),
    ),
  };
}

/** The first text of each of these invariants that was violated, as the run's evidence has it. */
export function firstTexts({ observer, found }: TwinState, invariants: readonly string[]): string[] {
  return invariants.flatMap((name) => {
    const first = found.get(name)?.first ?? observer.violations.find(({ invariant }) => invariant === name);
    return first ? [`\`${name}\`: ${first.text}.`] : [];
  });
}

export const violations = ({ observer, found }: TwinState, name: string): number =>
  (observer.violationCounts.get(name) ?? 0) + (found.get(name)?.count ?? 0);
