// `hostloom inspect e820`: a host's memory map and RMRRs from a boot log of Linux or Xen, beside the RMRRs of the same machine's
// DMAR table where that is given.
import { parseDmar } from '#formats/acpi/dmar';
import { memoryMapObject, memoryMapText, type TableRmrr } from '#formats/memory-map-log/inspection';
import { readMemoryMapLog } from '#formats/memory-map-log/memory-map-log';
import { type InspectedFile, type Inspection, type InspectOptions, readTable, textOf } from './inspector.ts';

export function inspectE820(file: InspectedFile, { dmar }: InspectOptions): Inspection {
  const log = readMemoryMapLog(textOf(file), file.name);
  const fromDmar = dmar && rmrrsOf(dmar);
  return {
    json: memoryMapObject(log, fromDmar),
    text: memoryMapText(log, fromDmar),
    complaints: log.problems.map(({ line, message }) => `${file.name}:${line}: ${message}`),
  };
}

const rmrrsOf = (dmar: InspectedFile): TableRmrr[] =>
  readTable(dmar, 'DMAR', parseDmar).structures.flatMap((structure) =>
    structure.type === 'RMRR'
      ? [{ base: Number(structure.base), limit: Number(structure.limit), deviceCount: structure.scopes.length }]
      : [],
  );
