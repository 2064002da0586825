// Compares a directory of golden vectors with the model and prints one line a file. Usage: run-vectors.ts [directory].
// Exit code 0: no mismatch; 1: mismatches, or a file nobody answers for.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compareVectors, type VectorReport } from '#formats/conformance';

const SHOWN = 3;
const directory = process.argv[2] ?? join(import.meta.dirname, '..', 'vectors');

function reportOn(file: string): VectorReport {
  return compareVectors(file, JSON.parse(readFileSync(join(directory, file), 'utf8')));
}

let bad = 0;
for (const file of readdirSync(directory).sort()) {
  if (!file.endsWith('.json')) continue;
  const report = reportOn(file);
  const result = report.status === 'compared' ? `${report.mismatches.length} mismatches` : report.status;
  console.log(`${file.padEnd(40)} ${String(report.cases).padStart(5)} cases  ${result}`);
  for (const m of report.mismatches.slice(0, SHOWN)) console.log(`    ${m.name}\n        ${m.difference}`);
  if (report.status === 'unknown' || report.mismatches.length > 0) bad++;
}
process.exitCode = bad > 0 ? 1 : 0;
