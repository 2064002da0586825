// What is wrong with a litmus test before anything of it runs: said with the file, the place in the test and the remedy. Whether
// its actors end and its verdicts hold is found by running it.
import { closestName, OperatorError, type Problem } from '#formats/operator-error';
import { defaultPolicies } from '#model/host-config';
import { MAX_ACTORS, MAX_ARGUMENTS } from './control.ts';
import { fallibleKinds } from './fallible.ts';
import { knownInvariants } from './invariants.ts';

type Loose = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Loose => typeof value === 'object' && value !== null;
const NAMES = 'docs/litmus.md and docs/invariants.md list them';

class Checks {
  readonly problems: Problem[] = [];
  private readonly file: string;
  private readonly lines: readonly string[];
  private readonly known: ReadonlySet<string>;

  constructor(file: string, source: string, own: readonly string[]) {
    this.file = file;
    this.lines = source.split('\n');
    this.known = new Set([...knownInvariants.keys(), ...own]);
  }

  /** `word` is looked for in the file, so that the message names its line. */
  add(message: string, remedy: string, word?: string): void {
    const at = word === undefined ? -1 : this.lines.findIndex((line) => line.includes(word));
    this.problems.push({ file: this.file, message, remedy, ...(at < 0 ? {} : { line: at + 1 }) });
  }

  invariant(name: unknown, where: string): void {
    if (typeof name === 'string' && this.known.has(name)) return;
    const close = typeof name === 'string' ? closestName(name, [...this.known]) : undefined;
    const remedy =
      close === undefined ? `name one there is (${NAMES}), or declare it under invariants` : `did you mean ${close}?`;
    this.add(`${where}: there is no invariant ${String(name)}`, remedy, String(name));
  }
}

/** Throws an OperatorError with all that is wrong. `source` is the file's text. */
export function checkLitmus(file: string, source: string, test: unknown): void {
  const own = isObject(test) && isObject(test.invariants) ? Object.keys(test.invariants) : [];
  const checks = new Checks(file, source, own);
  if (!isObject(test)) checks.add('its default export is no litmus test', 'write `export default litmus({ … })`');
  else {
    for (const field of ['title', 'source']) {
      if (typeof test[field] !== 'string') checks.add(`it has no ${field}`, `add a ${field}: one sentence`);
    }
    if (typeof test.start !== 'function')
      checks.add('it has no start', 'add start(s) { … } that builds what the actors need');
    checkActors(checks, test.actors, 'actors');
    checkNever(checks, test.never);
    checkVariants(checks, test);
    checkArguments(checks, test.arguments);
    checkFaults(checks, test.faults);
  }
  const [first, ...others] = checks.problems;
  if (first !== undefined) throw new OperatorError([first, ...others]);
}

function checkArguments(checks: Checks, given: unknown): void {
  const entries = Object.entries(isObject(given) ? given : {});
  if (entries.length > MAX_ARGUMENTS)
    checks.add(`arguments: there are ${entries.length}`, `use at most ${MAX_ARGUMENTS}`, 'arguments');
  for (const [name, values] of entries) {
    const right = Array.isArray(values) && values.length > 0 && values.every((value) => typeof value === 'number');
    if (!right) checks.add(`arguments.${name} has no values`, 'give it a list of numbers', name);
  }
}

function checkFaults(checks: Checks, faults: unknown): void {
  if (faults === undefined || faults === 'each') return;
  const list: readonly unknown[] = Array.isArray(faults) ? faults : [faults];
  const kinds = Object.keys(fallibleKinds);
  for (const kind of list) {
    if (kinds.includes(String(kind))) continue;
    checks.add(`faults: ${String(kind)} cannot fail`, `write 'each', or some of ${kinds.join(', ')}`, String(kind));
  }
}

function checkActors(checks: Checks, actors: unknown, where: string): void {
  if (!isObject(actors) || Object.keys(actors).length === 0) {
    checks.add(`${where}: there is no actor`, 'add one: its name, kind and what it does');
    return;
  }
  const count = Object.keys(actors).length;
  if (count > MAX_ACTORS) checks.add(`${where}: there are ${count} actors`, `use at most ${MAX_ACTORS}`);
  for (const [name, actor] of Object.entries(actors)) {
    const { kind, does } = isObject(actor) ? actor : {};
    if (kind !== 'software' && kind !== 'hardware') {
      checks.add(`${where}.${name}: its kind is ${String(kind)}`, "write kind: 'software' or kind: 'hardware'", name);
    }
    const list = Array.isArray(does) ? does : [does];
    if (list.length === 0 || list.length > 31 || list.some((one) => typeof one !== 'function')) {
      checks.add(
        `${where}.${name}: it does nothing that can be called`,
        'write does(w, names) { … }, or a list of 1 to 31 functions',
        name,
      );
    }
  }
}

function checkNever(checks: Checks, never: unknown): void {
  if (!Array.isArray(never) || never.length === 0)
    checks.add('never names no invariant', `name what must never be broken; ${NAMES}`);
  else for (const name of never) checks.invariant(name, 'never');
}

function checkVariants(checks: Checks, test: Loose): void {
  const { variants } = test;
  if (!isObject(variants) || Object.keys(variants).length === 0) {
    checks.add('there is no variant', 'add variants: at least one, with what it expects');
    return;
  }
  for (const [name, variant] of Object.entries(variants)) {
    const where = `variants.${name}`;
    if (!isObject(variant)) checks.add(`${where} is no variant`, 'write { what, expect }', name);
    else {
      if (typeof variant.what !== 'string')
        checks.add(`${where} does not say what it is`, 'add what: one sentence', name);
      checkExpectation(checks, variant.expect, where, name);
      checkPolicies(checks, variant.policies, where);
      if (variant.actors !== undefined) checkReplaced(checks, variant.actors, test.actors, where);
    }
  }
}

function checkExpectation(checks: Checks, expect: unknown, where: string, name: string): void {
  const { verdict, invariant } = isObject(expect) ? expect : {};
  if (verdict === 'violates') checks.invariant(invariant, `${where}.expect`);
  else if (verdict !== 'holds') {
    checks.add(`${where} has no expected verdict`, "add expect: holds, or expect: violates('anInvariant')", name);
  }
}

function checkPolicies(checks: Checks, policies: unknown, where: string): void {
  for (const key of Object.keys(isObject(policies) ? policies : {})) {
    if (Object.hasOwn(defaultPolicies, key)) continue;
    const close = closestName(key, Object.keys(defaultPolicies));
    checks.add(
      `${where}: there is no policy ${key}`,
      close === undefined ? 'see docs/policies.md' : `did you mean ${close}?`,
      key,
    );
  }
}

function checkReplaced(checks: Checks, replaced: unknown, actors: unknown, where: string): void {
  checkActors(checks, replaced, `${where}.actors`);
  for (const name of Object.keys(isObject(replaced) ? replaced : {})) {
    if (isObject(actors) && Object.hasOwn(actors, name)) continue;
    checks.add(`${where} replaces the actor ${name}, which the test does not have`, 'use the name of one it has', name);
  }
}
