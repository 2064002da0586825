// The combinations of a test's arguments: every value of one with every value of all others. A combination is known by which value of
// each it has.
import { type Control, word } from './control.ts';
import type { Litmus } from './litmus.ts';

export interface Combination {
  /** Of each argument, in the test's order, which of its values. */
  readonly places: readonly number[];
  readonly args: Readonly<Record<string, number>>;
}

/** One, with nothing in it, where the test has no arguments. */
export function combinationsOf(test: Litmus): Combination[] {
  let all: Combination[] = [{ places: [], args: {} }];
  for (const [name, values] of Object.entries(test.arguments ?? {})) {
    all = all.flatMap(({ places, args }) =>
      values.map((value, place) => ({ places: [...places, place], args: { ...args, [name]: value } })),
    );
  }
  return all;
}

/** What the combination that is played gives to each argument, read when it is asked for; `asked` is told that one was. */
export function currentArguments(
  test: Litmus,
  control: Control,
  asked: () => void = () => {},
): Readonly<Record<string, number>> {
  const args: Record<string, number> = {};
  for (const [i, [name, values]] of Object.entries(test.arguments ?? {}).entries()) {
    const get = (): number => {
      asked();
      return values[control.get(word.arguments + i)] as number; // the troupe writes places that there are
    };
    Object.defineProperty(args, name, { get, enumerable: true });
  }
  return args;
}

/** What a combination gives to each argument; null: the test has no such combination. */
export function argumentsAt(test: Litmus, places: readonly number[]): Readonly<Record<string, number>> | null {
  const given = Object.entries(test.arguments ?? {});
  if (given.length !== places.length) return null;
  const args: Record<string, number> = {};
  for (const [i, [name, values]] of given.entries()) {
    const value = values[places[i] as number];
    if (value === undefined) return null;
    args[name] = value;
  }
  return args;
}

/** `order 9, gfn 513`. */
export const describeArguments = (args: Readonly<Record<string, number>>): string =>
  Object.entries(args)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
