// A guest's xl.cfg as `hostloom inspect xlcfg` shows it: what is written there about memory and devices, as text and before any
// default, and what xl would say to the file. Owns these forms and the hints; the file is read by the toolstack's own parser.
import { parseGuestConfig } from '#model/toolstack/guest-config';
import { Xlcfg } from '#model/toolstack/xlcfg';
import { parseXlcfg, salvageXlcfg } from '#model/toolstack/xlcfg-parser';
import { OperatorError } from './operator-error.ts';

export interface XlcfgReading {
  readonly object: XlcfgObject;
  readonly text: string;
  /** Xen's complaints about the syntax, then its warnings, then hints of ours. */
  readonly complaints: readonly string[];
  /** xl cannot read this file. Whether it would create a guest from it (an excerpt has no name) is told in the text only. */
  readonly refused: boolean;
}

export interface XlcfgObject {
  readonly memory: string | null;
  readonly maxmem: string | null;
  readonly type: string | null;
  readonly mmio_hole: string | null;
  readonly e820_host: string | null;
  readonly gfx_passthru: string | null;
  readonly pci: readonly { readonly bdf: string; readonly opts: readonly string[] }[];
}

/** A file that xl refuses is read all the same, as far as its assignments are whole; throws OperatorError where none is. */
export function readXlcfgFile(text: string, source: string): XlcfgReading {
  const { ok, report, settings: exact } = parseXlcfg(text, source);
  const settings = ok ? exact : salvageXlcfg(text);
  const cfg = new Xlcfg(settings, source);
  if (!ok && settings.size === 0) {
    throw new OperatorError([
      {
        file: source,
        message: `xl cannot read this:\n${report.map(escaped).join('\n')}`,
        remedy: 'give a guest configuration: one `key = value` a line',
      },
    ]);
  }
  const object = objectOf(cfg);
  const errors = ok ? semanticErrors(text, source) : [];
  const complaints = [...report, ...cfg.warnings, ...(ok ? [] : hintsOn(text, source))].map(escaped);
  return {
    object,
    text: tableOf(object, cfg, ok ? xlVerdict(errors) : ['xl refuses this file: its syntax is wrong (see above)']),
    complaints,
    refused: !ok,
  };
}

function objectOf(cfg: Xlcfg): XlcfgObject {
  const word = (key: string): string | null => cfg.getString(key) ?? null;
  return {
    memory: word('memory'),
    maxmem: word('maxmem'),
    type: word('type') ?? word('builder'),
    mmio_hole: word('mmio_hole'),
    e820_host: word('e820_host'),
    gfx_passthru: word('gfx_passthru'),
    pci: (cfg.getStrings('pci') ?? []).map(({ text }) => {
      const [bdf = '', ...opts] = text.split(',').map((part) => part.trim());
      return { bdf, opts: opts.filter((opt) => opt !== '') };
    }),
  };
}

/** Hints are for what people write. */
const LONGEST_LINE = 4096;

/** What people do most often to a file that worked elsewhere; Xen's messages name the place, not the reason. */
function hintsOn(text: string, source: string): string[] {
  const hints: string[] = [];
  // What stands in quotes is no syntax.
  const lines = text
    .split('\n')
    .map((line) => (line.length > LONGEST_LINE ? '' : line.replaceAll(/'[^']*'|"[^"]*"/g, "''")));
  const note = (pattern: RegExp, hint: string): void => {
    const index = lines.findIndex((line) => pattern.test(line));
    if (index >= 0) hints.push(`${source}:${index + 1}: hint: ${hint}`);
  };
  note(/\r$/, 'lines end in CR LF (written on Windows); xl wants LF alone: sed -i "s/\\r$//" FILE');
  note(
    /^\s*[A-Za-z][\w.]*[A-Z-][\w.-]*\s*\+?=|^\s*[A-Z]\w*\s*\+?=/,
    'keys are lower case, of letters, digits, "." and "_"',
  );
  note(/^\s*(?:import|from|def|if|else|for|print)\b/, 'Python is no longer read; only assignments are');
  note(/=\s*(?:True|False|None)\b/, 'a switch is a number: 1 or 0');
  note(/=\s*[-+]\d/, 'a number with a sign must stand in quotes');
  note(/(['"\]]|\d)[ \t]+[a-z][\w.]*\s*=[^=]/, 'two assignments on one line need ";" between them');
  if (!text.endsWith('\n') && /#[^\n]*$/.test(text)) {
    hints.push(`${source}:${lines.length}: hint: a comment on the last line needs a newline after it`);
  }
  return hints;
}

/** What xl says after reading: of an excerpt it wants a name, of a whole file it may want more. */
function semanticErrors(text: string, source: string): string[] {
  const parsed = parseGuestConfig(text, source);
  if (parsed.ok) return [];
  return parsed.errors.map(({ line, message }) => `  ${line === undefined ? '' : `line ${line}: `}${message}`);
}

const xlVerdict = (errors: readonly string[]): string[] =>
  errors.length === 0 ? ['xl can read this file'] : ['xl refuses this file:', ...errors];

/** What a value holds must not steer a terminal: control bytes as they are written in a string. */
const escaped = (line: string): string =>
  line.replaceAll(/\p{Cc}/gu, (byte) => {
    const named = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[byte];
    return named ?? `\\x${(byte.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`;
  });

function tableOf(object: XlcfgObject, cfg: Xlcfg, verdict: readonly string[]): string {
  const { pci, ...values } = object;
  const lines = Object.entries(values).map(([key, value]) => `${key.padEnd(13)} ${value ?? '-'}`);
  const rdm = cfg.getString('rdm', true);
  if (rdm !== undefined) lines.push(`${'rdm'.padEnd(13)} ${rdm}`);
  for (const { bdf, opts } of pci)
    lines.push(`${'pci'.padEnd(13)} ${bdf}${opts.length === 0 ? '' : `  ${opts.join(', ')}`}`);
  return [...lines, ...podNote(object), ...verdict].map(escaped).join('\n');
}

function podNote({ memory, maxmem, pci }: XlcfgObject): string[] {
  if (memory === null || maxmem === null || !(Number(memory) < Number(maxmem))) return [];
  const why = pci.length === 0 ? '' : '; with devices passed through, libxl refuses that';
  return [`memory is below maxmem: an HVM or PVH guest is built with populate-on-demand${why}`];
}
