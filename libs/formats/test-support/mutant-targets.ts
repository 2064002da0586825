// Every parser of files that people bring, with good files of its kind to damage: our own, and those of HOSTLOOM_INPUTS where
// that is set.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDmar } from '../src/acpi/dmar.ts';
import { dmarText } from '../src/acpi/dmar-text.ts';
import { parseIvrs } from '../src/acpi/ivrs.ts';
import { ivrsText } from '../src/acpi/ivrs-text.ts';
import { tableBytes } from '../src/acpi/table-source.ts';
import { explainLines, explanationText } from '../src/fault-line/explanation.ts';
import { emptyContext } from '../src/fault-line/fault-context.ts';
import { readLspci } from '../src/lspci.ts';
import { lspciObject, lspciText } from '../src/lspci-inspection.ts';
import { memoryMapObject, memoryMapText } from '../src/memory-map-log/inspection.ts';
import { readMemoryMapLog } from '../src/memory-map-log/memory-map-log.ts';
import { OperatorError } from '../src/operator-error.ts';
import { readXlcfgFile } from '../src/xlcfg-inspection.ts';
import type { MutantTarget } from './mutant-run.ts';
import { sampleDmar, sampleIvrs, samplesAsText } from './sample-tables.ts';
import { sampleConfigs, sampleFaults, sampleListings, sampleLogs } from './sample-texts.ts';
import { repaired } from './table-writer.ts';

/** Files of `directory` in HOSTLOOM_INPUTS whose name the pattern fits; none where it is not set. */
function inputs(directory: string, pattern: RegExp): Uint8Array[] {
  const path = join(process.env.HOSTLOOM_INPUTS ?? '', directory);
  if (process.env.HOSTLOOM_INPUTS === undefined || !existsSync(path)) return [];
  return (
    readdirSync(path)
      .filter((name) => pattern.test(name))
      .sort()
      // A Buffer's slice is no copy.
      .map((name) => new Uint8Array(readFileSync(join(path, name))))
  );
}

const MAP = [
  { start: 0, end: 0x9ffff, type: 'usable' },
  { start: 0x100000, end: 0x7fffffff, type: 'usable' },
  { start: 0x80000000, end: 0x8fffffff, type: 'reserved' },
];

const readDmar = (file: Uint8Array): string =>
  dmarText(parseDmar(tableBytes(file, 'DMAR')), { map: MAP, secondaryBuses: new Map() });
const readIvrs = (file: Uint8Array): string => ivrsText(parseIvrs(tableBytes(file, 'IVRS')), { map: MAP });

const textOf = (file: Uint8Array): string => new TextDecoder().decode(file);

function explained(file: Uint8Array): string {
  const { explanations } = explainLines(textOf(file), emptyContext);
  if (explanations.length > 0) return explanations.map((each) => explanationText(each, emptyContext)).join();
  throw new OperatorError([{ file: 'lines', message: 'no line is understood', remedy: 'give a line about a fault' }]);
}

const textTargets: readonly MutantTarget[] = [
  {
    name: 'boot log',
    seeds: [...sampleLogs, ...inputs('logs', /\.txt$/)],
    read: (file) => {
      const log = readMemoryMapLog(textOf(file), 'log');
      return [memoryMapObject(log), memoryMapText(log)];
    },
  },
  {
    name: 'lspci',
    seeds: [...sampleListings, ...inputs('lspci', /\.txt$/)],
    read: (file) => {
      const listing = readLspci(textOf(file), 'listing');
      return [lspciObject(listing), lspciText(listing)];
    },
  },
  {
    name: 'xl.cfg',
    seeds: [...sampleConfigs, ...inputs('cfg', /\.cfg$/)],
    read: (file) => readXlcfgFile(textOf(file), 'guest.cfg'),
  },
  { name: 'fault lines', seeds: [...sampleFaults, ...inputs('.', /^fault-lines\.jsonl$/)], read: explained },
];

export const mutantTargets: readonly MutantTarget[] = [
  {
    name: 'dmar',
    seeds: [...sampleDmar, ...inputs('dmar', /^(?!ivrs-).*\.dat$/)],
    repair: repaired,
    read: readDmar,
  },
  { name: 'ivrs', seeds: [...sampleIvrs, ...inputs('dmar', /^ivrs-.*\.dat$/)], repair: repaired, read: readIvrs },
  { name: 'acpi text', seeds: samplesAsText, read: readDmar },
  ...textTargets,
];
