// `hostloom preflight`: may these devices be given to these guests on this machine, and if not, why and what helps. Reads the files,
// prints the report, answers 0 clean, 1 blocked, 3 warnings only; 64 for what cannot be read.
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readText } from '#formats/host-file';
import { OperatorError } from '#formats/operator-error';
import { preflight } from '#preflight/preflight';
import { preflightObject } from '#preflight/report-json';
import { preflightText } from '#preflight/report-text';
import { type ScenarioFile, scenarioFiles } from '#preflight/scenario-files';
import { makeDirectory } from '../directory.ts';
import type { Output } from '../terminal.ts';
import { type MachineOptions, readMachine } from './machine-input.ts';

export interface PreflightOptions extends MachineOptions {
  readonly full?: boolean;
  /** A directory for scenarios with this machine and these guests filled in. */
  readonly writeScenario?: string;
}

export function preflightCommand(guests: readonly string[], options: PreflightOptions, output: Output): number {
  const machine = readMachine(options);
  const files = guests.map((file) => ({ file, text: readText(resolve(file), file, 'name a guest’s xl.cfg file') }));
  const report = preflight(machine, files);
  const scenarios = toRun(scenarioFiles(report, files), options.writeScenario);
  output.line(preflightText(report, { scenarios, full: options.full ?? false }));
  output.json(preflightObject(report, scenarios));
  return report.exit;
}

/** Writes the scenarios where that is asked for; answers the commands that run them. */
function toRun(files: readonly ScenarioFile[], dir: string | undefined): string[] {
  const questions = files.flatMap(({ name, question }) => (question === null ? [] : [{ name, question }]));
  if (questions.length === 0) {
    return dir === undefined
      ? []
      : [`  nothing was written to ${dir}: no guest of these would start, or none was given`];
  }
  if (dir === undefined) {
    return [
      '  --write-scenario DIR writes these as files; then',
      ...questions.map(({ name, question }) => `  hostloom run DIR/${name}   ${question}`),
    ];
  }
  makeDirectory(dir);
  try {
    for (const { name, text } of files) writeFileSync(join(dir, name), text);
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new OperatorError([
      { file: dir, message: `cannot be written to (${why})`, remedy: 'name a directory of your own' },
    ]);
  }
  return questions.map(({ name, question }) => `  hostloom run ${join(dir, name)}   ${question}`);
}
