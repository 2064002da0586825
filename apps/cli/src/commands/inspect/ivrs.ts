// `hostloom inspect ivrs`: an IVRS table, with its memory ranges laid into the host's map where a boot log is given.
import { parseIvrs } from '#formats/acpi/ivrs';
import { ivrsText } from '#formats/acpi/ivrs-text';
import { type InspectedFile, type Inspection, type InspectOptions, readTable } from './inspector.ts';
import { hostMapOf } from './machine-files.ts';

export function inspectIvrs(file: InspectedFile, { dmesg }: InspectOptions): Inspection {
  const table = readTable(file, 'IVRS', parseIvrs);
  return { json: table, text: ivrsText(table, dmesg === undefined ? {} : { map: hostMapOf(dmesg) }) };
}
