// A scenario guest's xl.cfg: finds the file (or takes the text written into the scenario), adds the keys the scenario sets,
// and leads a line of the result back to where a person wrote it. Reads no xl.cfg key itself: that is the toolstack's.
import { existsSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { readText } from './host-file.ts';
import type { GuestText, ScenarioGuest, XlValue } from './scenario.ts';

/** Text with a line break or an assignment is the xl.cfg itself, not its path. */
export const isInline = (config: string): boolean => /[\n=]/.test(config);

/** Where a path inside `scenarioFile` leads: beside the scenario if it is there, else from the repository's root. */
export function resolvePath(path: string, scenarioFile: string, root: string): string {
  const beside = resolve(dirname(scenarioFile), path);
  return existsSync(beside) ? beside : resolve(root, path);
}

/** As messages show it: relative to the root where it lies below it. */
export function shownPath(path: string, root: string): string {
  const shown = relative(root, path);
  return shown === '' || shown.startsWith('..') ? path : shown;
}

/** Throws OperatorError if the file cannot be read. */
export function readGuestText(path: string, root: string): GuestText {
  const file = shownPath(path, root);
  return {
    file,
    firstLine: 1,
    text: readText(path, file, 'correct the path; it is looked up beside the scenario, then from the root'),
  };
}

/** The whole xl.cfg: the text, then the scenario's settings and the guest's name (the last assignment of a key wins). */
export function xlConfigText(guest: ScenarioGuest, extra: Readonly<Record<string, XlValue>> = {}): string {
  const { text } = guest.config;
  const settings = Object.entries({ ...guest.set, ...extra, name: guest.name });
  const lines = settings.map(([key, value]) => `${key} = ${xlValue(value)}\n`);
  return `${text === '' || text.endsWith('\n') ? text : `${text}\n`}${lines.join('')}`;
}

/** File and line a person must look at for line `line` (1-based) of `xlConfigText`. */
export function placeOfXlLine(
  guest: ScenarioGuest,
  scenarioFile: string,
  line: number,
): { file: string; line: number } {
  const { text, file, firstLine } = guest.config;
  const lines = text === '' ? 0 : text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
  return line <= lines ? { file, line: firstLine + line - 1 } : { file: scenarioFile, line: guest.line };
}

/** In xl's syntax: unquoted only if it is a plain number; the escapes are those xl's lexer knows. */
function xlValue(value: XlValue): string {
  if (Array.isArray(value)) return `[ ${value.map(quoted).join(', ')} ]`;
  if (typeof value === 'number' && value >= 0) return String(value);
  return quoted(String(value));
}

function quoted(text: string): string {
  const escapes: Record<string, string> = { '\\': '\\\\', '"': '\\"', '\n': '\\n', '\t': '\\t', '\r': '\\r' };
  return `"${text.replace(/[\\"\n\t\r]/g, (c) => escapes[c] ?? c)}"`;
}
