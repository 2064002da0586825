// `hostloom conformance`: golden vectors of Xen's own functions, file by file; with --real, guests beside what a real Xen gave
// them. Reads the files and prints; what is compared, and how, is libs/formats/src/conformance.ts and conformance-real.ts.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Mismatch, runVectorFile, type VectorMode, type VectorReport } from '#formats/conformance';
import { parseRealGuests } from '#formats/conformance/real-guests';
import { compareRealGuest, type RealReport, versionRules } from '#formats/conformance-real';
import { OperatorError } from '#formats/operator-error';
import { CommandError, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';

/** Failed cases of one file that a person is shown; --json has them all. */
const SHOWN = 3;
const WIDTH = 300;

function readInput(path: string, remedy: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new CommandError(`${path} cannot be read (${reason(error)})`, remedy, EXIT_USAGE);
  }
}

const reason = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);

function vectorNames(directory: string): string[] {
  const remedy = 'name a directory of golden vectors, such as test/vectors';
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw new CommandError(`${directory} cannot be read (${reason(error)})`, remedy, EXIT_USAGE);
  }
  const files = names.filter((name) => name.endsWith('.json')).sort();
  if (files.length === 0) throw new CommandError(`${directory} has no *.json`, remedy, EXIT_USAGE);
  return files;
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > WIDTH ? `${text.slice(0, WIDTH)}…` : text;
};

function tell(output: Output, { file, total, mismatches }: VectorReport): void {
  output.line(`${file} ${total - mismatches.length}/${total}`);
  for (const mismatch of mismatches.slice(0, SHOWN)) tellMismatch(output, mismatch);
  const more = mismatches.length - SHOWN;
  if (more > 0) output.line(`    and ${more} more`);
}

function tellMismatch(output: Output, mismatch: Mismatch): void {
  output.line(`    ${shown(mismatch.name)}`);
  if ('error' in mismatch) {
    output.line(`        broke off: ${mismatch.error}`);
    return;
  }
  output.line(`        at       ${mismatch.path}`);
  output.line(`        expected ${shown(mismatch.expected)}`);
  output.line(`        got      ${shown(mismatch.got)}`);
}

/** 0: every case passes; 1: some fail; 64: a file cannot be used (the others are run all the same). */
export function vectorsCommand(directory: string, mode: VectorMode, output: Output): number {
  const files: object[] = [];
  const problems: string[] = [];
  let [passed, failed] = [0, 0];
  for (const name of vectorNames(directory)) {
    const path = join(directory, name);
    try {
      const report = runVectorFile(name, path, readInput(path, 'make it readable, or remove it'), mode);
      tell(output, report);
      const { file, total, mismatches } = report;
      files.push({ file, passed: total - mismatches.length, total, differences: mismatches });
      passed += total - mismatches.length;
      failed += mismatches.length;
    } catch (error) {
      if (!(error instanceof OperatorError || error instanceof CommandError)) throw error;
      problems.push(error.message);
      output.warn(error instanceof CommandError ? `${error.message}\n    → ${error.remedy}` : error.message);
    }
  }
  output.line(`${passed} passed, ${failed} failed`);
  output.json({ passed, failed, files, problems });
  return problems.length > 0 ? EXIT_USAGE : failed > 0 ? EXIT_FAILED : EXIT_OK;
}

function tellGuest(output: Output, { name, verdict, compared, differences, explainedBy, notes }: RealReport): void {
  output.line(
    `${name} ${verdict}${explainedBy.length > 0 ? ` by ${explainedBy.join(', ')}` : ''}: ${compared.join(', ')}`,
  );
  for (const { item, path, expected, got } of differences) {
    output.line(`    ${item} at ${path}: expected ${shown(expected)}, got ${shown(got)}`);
  }
  for (const note of notes) output.line(`    ${note}`);
}

/** 0: every guest agrees or differs only by a named rule; 1: some differ. */
export function realCommand(file: string, mode: VectorMode, output: Output): number {
  const text = readInput(file, 'name a guests.json: what a real Xen gave its guests');
  const reports: RealReport[] = [];
  for (const guest of parseRealGuests(text, file)) {
    const report = compareRealGuest(guest, mode.bugCompat);
    tellGuest(output, report);
    reports.push(report);
  }
  const used = versionRules.filter(({ name }) => reports.some(({ explainedBy }) => explainedBy.includes(name)));
  for (const { name, reason, knob } of used) output.line(`${name}: ${reason} (${knob})`);
  const failed = reports.filter(({ verdict }) => verdict === 'differs').length;
  const passed = reports.length - failed;
  output.line(`${passed} passed, ${failed} failed`);
  const rules = used.map(({ name, reason, knob }) => ({ name, reason, knob }));
  output.json({ passed, failed, guests: reports, rules });
  return failed > 0 ? EXIT_FAILED : EXIT_OK;
}
