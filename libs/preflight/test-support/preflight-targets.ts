// Damaged files through the whole of `hostloom preflight` and `hostloom host import`: one of a machine's files is damaged, the others
// are good. What comes out must be a report, or an error that tells the place; and what is imported must be a host that loads.
import { readFileSync } from 'node:fs';
import { parseDmar } from '#formats/acpi/dmar';
import { parseIvrs } from '#formats/acpi/ivrs';
import { tableBytes } from '#formats/acpi/table-source';
import { parseHost } from '#formats/host-file';
import type { MutantTarget } from '../../formats/test-support/mutant-run.ts';
import { mutantTargets } from '../../formats/test-support/mutant-targets.ts';
import { sampleDmar } from '../../formats/test-support/sample-tables.ts';
import { sampleListings, sampleLogs } from '../../formats/test-support/sample-texts.ts';
import { repaired } from '../../formats/test-support/table-writer.ts';
import { machineOfFirmware } from '../src/firmware/firmware-machine.ts';
import type { FirmwareInputs } from '../src/firmware/inputs.ts';
import { hostYaml } from '../src/host-yaml.ts';
import { preflight } from '../src/preflight.ts';
import { preflightObject } from '../src/report-json.ts';
import { preflightText } from '../src/report-text.ts';
import { scenarioFiles } from '../src/scenario-files.ts';

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const good = {
  dmar: (): NonNullable<FirmwareInputs['dmar']> => ({ file: 'dmar', table: parseDmar(first(sampleDmar)) }),
  log: { file: 'log', text: textOf(first(sampleLogs)) },
  lspci: { file: 'lspci', text: textOf(first(sampleListings)) },
};
const guest = {
  file: 'guest.cfg',
  text: readFileSync(new URL('../../../scenarios/guests/win7-igd.cfg', import.meta.url), 'utf8'),
};

function first<T>(list: readonly T[]): T {
  const [value] = list;
  if (value === undefined) throw new Error('an empty list of samples');
  return value;
}

/** The good files of a parser's target: real ones too, where HOSTLOOM_INPUTS is set. */
function seedsOf(name: string): MutantTarget['seeds'] {
  const target = mutantTargets.find((each) => each.name === name);
  if (target === undefined) throw new Error(`no target is called ${name}`);
  return target.seeds;
}

/** What the commands do, all of it. */
function whole(inputs: Omit<FirmwareInputs, 'name'>, cfg: string = guest.text): string {
  const machine = machineOfFirmware({ name: 'mutant', ...inputs });
  parseHost(hostYaml(machine), 'mutant.yaml');
  const files = [{ file: guest.file, text: cfg }];
  const report = preflight(machine, files);
  const scenarios = scenarioFiles(report, files).map(({ text }) => text);
  return [preflightText(report, { scenarios, full: true }), JSON.stringify(preflightObject(report, scenarios))].join(
    '\n',
  );
}

export const preflightTargets: readonly MutantTarget[] = [
  {
    name: 'preflight dmar',
    seeds: seedsOf('dmar'),
    repair: repaired,
    read: (file) => whole({ ...good, dmar: { file: 'dmar', table: parseDmar(tableBytes(file, 'DMAR')) } }),
  },
  {
    name: 'preflight ivrs',
    seeds: seedsOf('ivrs'),
    repair: repaired,
    read: (file) =>
      whole({ log: good.log, lspci: good.lspci, ivrs: { file: 'ivrs', table: parseIvrs(tableBytes(file, 'IVRS')) } }),
  },
  {
    name: 'preflight log',
    seeds: seedsOf('boot log'),
    read: (file) => whole({ ...good, dmar: good.dmar(), log: { file: 'log', text: textOf(file) } }),
  },
  {
    name: 'preflight lspci',
    seeds: seedsOf('lspci'),
    read: (file) => whole({ ...good, dmar: good.dmar(), lspci: { file: 'lspci', text: textOf(file) } }),
  },
  {
    name: 'preflight xl.cfg',
    seeds: seedsOf('xl.cfg'),
    read: (file) => whole({ ...good, dmar: good.dmar() }, textOf(file)),
  },
];
