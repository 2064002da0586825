// A schedule as one word that can be pasted into a terminal: which test and variant, who takes how many steps, what fails, and a
// check that the run is still the same one.
//   hl1:litmus/shatter.ts:naive:A12B3:7f3a9c21…   and, where they are not the usual, :f3 (the fourth fallible step fails),
//   :o7.1 (operations of each actor, a bit each) and :a2.0 (which value of each of the test's arguments, from 0), :m1.17 (which step
//   of which actor is left out)
import { parseRuns } from './schedule.ts';

const VERSION = 'hl1';

export interface Recorded {
  readonly path: string;
  readonly variant: string;
  /** `A12B3`: runs of events; after them the default goes on. */
  readonly runs: string;
  /** Of the whole trace. */
  readonly hash: string;
  readonly failAt?: number;
  readonly operations?: readonly number[];
  /** The step that is left out (mutator.ts). */
  readonly mutant?: { readonly actor: number; readonly step: number };
  /** Of each of the test's arguments, which of its values. */
  readonly args?: readonly number[];
}

/** What an operator pasted is no replay string, or of another version. */
export class ReplayStringError extends Error {
  override readonly name = 'ReplayStringError';
  readonly remedy: string;

  constructor(message: string, remedy: string) {
    super(message);
    this.remedy = remedy;
  }
}

/** Characters that a shell or the separator would take for something else are written as in an address. */
const escaped = (text: string): string =>
  text.replace(/[^A-Za-z0-9_./-]/gu, (c) =>
    [...new TextEncoder().encode(c)].map((b) => `%${b.toString(16).padStart(2, '0')}`).join(''),
  );

export function formatReplay({ path, variant, runs, hash, failAt, operations, args = [], mutant }: Recorded): string {
  const parts = [VERSION, escaped(path), escaped(variant), runs, hash];
  if (failAt !== undefined) parts.push(`f${failAt}`);
  if (operations !== undefined) parts.push(`o${operations.map((mask) => (mask >>> 0).toString(36)).join('.')}`);
  if (args.length > 0) parts.push(`a${args.join('.')}`);
  if (mutant !== undefined) parts.push(`m${mutant.actor}.${mutant.step}`);
  return parts.join(':');
}

const AGAIN = 'copy it whole from what `hostloom explore` printed';

export function parseReplay(text: string): Recorded {
  const [version = '', path = '', variant = '', runs = '', hash = '', ...rest] = text.trim().split(':');
  if (!/^hl\d+$/.test(version)) throw new ReplayStringError(`'${text.slice(0, 40)}' is no replay string`, AGAIN);
  if (version !== VERSION) {
    const remedy = 'run `hostloom explore` again with this version, or replay it with the version that printed it';
    throw new ReplayStringError(`the replay string is of version ${version}, this hostloom reads ${VERSION}`, remedy);
  }
  const bad = (what: string): never => {
    throw new ReplayStringError(`the replay string is damaged: ${what}`, AGAIN);
  };
  if (path === '' || variant === '') bad('it names no litmus test and variant');
  if (parseRuns(runs) === null) bad(`'${runs}' is no schedule`);
  if (!/^[0-9a-f]{16}$/.test(hash)) bad(`'${hash}' is no check`);
  let failAt: number | undefined;
  let mutant: { readonly actor: number; readonly step: number } | undefined;
  let [operations, args]: [number[] | undefined, number[] | undefined] = [undefined, undefined];
  for (const part of rest) {
    if (/^f\d+$/.test(part)) failAt = Number(part.slice(1));
    else if (/^m\d+\.\d+$/.test(part)) {
      const [actor = 0, step = 0] = part.slice(1).split('.').map(Number);
      mutant = { actor, step };
    } else if (/^a\d+(\.\d+)*$/.test(part)) args = part.slice(1).split('.').map(Number);
    else if (/^o[0-9a-z]+(\.[0-9a-z]+)*$/.test(part)) {
      operations = part
        .slice(1)
        .split('.')
        .map((mask) => Number.parseInt(mask, 36) | 0);
    } else bad(`'${part}' is not known`);
  }
  return {
    path: decoded(path, bad),
    variant: decoded(variant, bad),
    runs,
    hash,
    ...(failAt === undefined ? {} : { failAt }),
    ...(operations === undefined ? {} : { operations }),
    ...(args === undefined ? {} : { args }),
    ...(mutant === undefined ? {} : { mutant }),
  };
}

function decoded(text: string, bad: (what: string) => never): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return bad(`'${text}' is no name`);
  }
}
