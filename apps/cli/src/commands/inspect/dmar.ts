// `hostloom inspect dmar`: a DMAR table, with its device paths resolved where an lspci of the machine is given and its reserved
// regions laid into the host's map where a boot log is.
import { parseDmar } from '#formats/acpi/dmar';
import { dmarText } from '#formats/acpi/dmar-text';
import { type InspectedFile, type Inspection, type InspectOptions, readTable } from './inspector.ts';
import { bridgesOf, hostMapOf } from './machine-files.ts';

export function inspectDmar(file: InspectedFile, { lspci, dmesg }: InspectOptions): Inspection {
  const table = readTable(file, 'DMAR', parseDmar);
  const text = dmarText(table, {
    ...(lspci === undefined ? {} : { secondaryBuses: bridgesOf(lspci) }),
    ...(dmesg === undefined ? {} : { map: hostMapOf(dmesg) }),
  });
  return { json: table, text };
}
