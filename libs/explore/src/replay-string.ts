// A schedule as one word that can be pasted into a terminal: which test and variant, who takes how many steps, what fails, and a
// check that the run is still the same one.
//   hl1:litmus/shatter.ts:naive:A12B3:7f3a9c21…   and, where they are not the usual, :f3 (the fourth fallible step fails) and
//   :o7.1 (operations of each actor, a bit each)
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

export function formatReplay({ path, variant, runs, hash, failAt, operations }: Recorded): string {
  const parts = [VERSION, escaped(path), escaped(variant), runs, hash];
  if (failAt !== undefined) parts.push(`f${failAt}`);
  if (operations !== undefined) parts.push(`o${operations.map((mask) => (mask >>> 0).toString(36)).join('.')}`);
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
  let [failAt, operations]: [number | undefined, number[] | undefined] = [undefined, undefined];
  for (const part of rest) {
    if (/^f\d+$/.test(part)) failAt = Number(part.slice(1));
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
  };
}

function decoded(text: string, bad: (what: string) => never): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return bad(`'${text}' is no name`);
  }
}
