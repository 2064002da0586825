// `hostloom inspect KIND FILE`: what a file of a real machine says. The registry of kinds, and reading the files; what each
// kind says stands in the file of its name.
import { readFileSync, statSync } from 'node:fs';
import { closestName, OperatorError } from '#formats/operator-error';
import { EXIT_FAILED, EXIT_OK } from '../../exit-codes.ts';
import type { Output } from '../../terminal.ts';
import { inspectDmar } from './dmar.ts';
import { inspectE820 } from './e820.ts';
import type { InspectedFile, Inspector } from './inspector.ts';
import { inspectIvrs } from './ivrs.ts';
import { inspectLspci } from './lspci.ts';
import { inspectXlcfg } from './xlcfg.ts';

const INSPECTORS: ReadonlyMap<string, Inspector> = new Map([
  ['dmar', inspectDmar],
  ['ivrs', inspectIvrs],
  ['e820', inspectE820],
  ['lspci', inspectLspci],
  ['xlcfg', inspectXlcfg],
]);

export const INSPECT_KINDS: readonly string[] = [...INSPECTORS.keys()];

/** Larger than any table, log or listing of one machine. */
const LARGEST_FILE = 64 * 2 ** 20;

export interface InspectFlags {
  readonly lspci?: string;
  readonly dmesg?: string;
  readonly dmar?: string;
}

export function inspectCommand(kind: string, file: string, flags: InspectFlags, output: Output): number {
  const inspector = INSPECTORS.get(kind);
  if (inspector === undefined) {
    const near = closestName(kind, INSPECT_KINDS);
    throw new OperatorError([
      {
        file: kind,
        message: `no kind of file that can be inspected${near === undefined ? '' : `; did you mean ${near}?`}`,
        remedy: `one of ${INSPECT_KINDS.join(', ')}`,
      },
    ]);
  }
  const {
    json,
    text,
    complaints = [],
    refused = false,
  } = inspector(readInput(file), {
    ...(flags.lspci === undefined ? {} : { lspci: readInput(flags.lspci) }),
    ...(flags.dmesg === undefined ? {} : { dmesg: readInput(flags.dmesg) }),
    ...(flags.dmar === undefined ? {} : { dmar: readInput(flags.dmar) }),
  });
  for (const complaint of complaints) output.warn(complaint);
  output.line(text);
  output.json(json);
  return refused ? EXIT_FAILED : EXIT_OK;
}

export function readInput(name: string): InspectedFile {
  const refuse = (message: string, remedy: string): never => {
    throw new OperatorError([{ file: name, message, remedy }]);
  };
  try {
    const { size } = statSync(name);
    if (size > LARGEST_FILE) refuse(`${size} bytes are more than any such file has`, 'name the right file');
    return { bytes: readFileSync(name), name };
  } catch (error) {
    if (error instanceof OperatorError) throw error;
    // Node's own codes: ENOENT, EISDIR, EACCES.
    const { code } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' ? 'no such file' : code === 'EISDIR' ? 'it is a directory' : (code ?? String(error));
    return refuse(`cannot be read: ${reason}`, 'name a file that can be read');
  }
}
