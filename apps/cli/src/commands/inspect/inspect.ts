// `hostloom inspect KIND FILE`: what a file of a real machine says. The registry of kinds, and reading the files; what each
// kind says stands in the file of its name.
import { readFileSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
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

export async function inspectCommand(kind: string, file: string, flags: InspectFlags, output: Output): Promise<number> {
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
  } = inspector(await awaitInput(file), {
    ...(flags.lspci === undefined ? {} : { lspci: await awaitInput(flags.lspci) }),
    ...(flags.dmesg === undefined ? {} : { dmesg: await awaitInput(flags.dmesg) }),
    ...(flags.dmar === undefined ? {} : { dmar: await awaitInput(flags.dmar) }),
  });
  for (const complaint of complaints) output.warn(complaint);
  output.line(text);
  output.json(json);
  return refused ? EXIT_FAILED : EXIT_OK;
}

/** Of a regular file, or of a pipe that the shell gave in its place; for what reads its files in one go. */
export function readInput(name: string): InspectedFile {
  return reading(name, () => {
    kindOf(name);
    return { bytes: readFileSync(name), name };
  });
}

/** As readInput; `-` is standard input, and Ctrl-C ends the wait for whoever writes into a pipe. */
export async function awaitInput(name: string): Promise<InspectedFile> {
  if (name === '-' || name === '/dev/stdin') return { bytes: await bytesOf(process.stdin, name), name };
  const kind = reading(name, () => kindOf(name));
  if (kind === 'file') return readInput(name);
  const stream = new Socket({ fd: Number(name.slice(name.lastIndexOf('/') + 1)), readable: true, writable: false });
  return { bytes: await bytesOf(stream, name), name };
}

const refuse = (file: string, message: string, remedy: string): OperatorError =>
  new OperatorError([{ file, message, remedy }]);

/** What process substitution gives; a named pipe may have no writer ever. */
const OPEN_PIPE = /^\/(?:dev|proc\/self)\/fd\/\d+$/;

function kindOf(name: string): 'file' | 'pipe' {
  const stat = statSync(name);
  if (stat.size > LARGEST_FILE) throw tooLarge(name, `${stat.size} bytes`);
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) throw refuse(name, 'cannot be read: it is a directory', READABLE);
  if (OPEN_PIPE.test(name) && (stat.isFIFO() || stat.isSocket())) return 'pipe';
  throw refuse(name, 'is neither a file nor a pipe of this command', 'name a file, or `-` for standard input');
}

const READABLE = 'name a file that can be read';
const tooLarge = (name: string, size: string): OperatorError =>
  refuse(name, `${size} are more than any such file has`, 'name the right file');

async function bytesOf(stream: AsyncIterable<Uint8Array>, name: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > LARGEST_FILE) throw tooLarge(name, `more than ${LARGEST_FILE} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function reading<Result>(name: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (error instanceof OperatorError) throw error;
    // Node's own codes: ENOENT, EACCES.
    const { code } = error as NodeJS.ErrnoException;
    throw refuse(name, `cannot be read: ${code === 'ENOENT' ? 'no such file' : (code ?? String(error))}`, READABLE);
  }
}
