// `hostloom inspect lspci`: the devices of a machine with their BARs, bridges and groups, and which of them are graphics.
import { readLspci } from '#formats/lspci';
import { lspciObject, lspciText } from '#formats/lspci-inspection';
import { type InspectedFile, type Inspection, textOf } from './inspector.ts';

export function inspectLspci(file: InspectedFile): Inspection {
  const listing = readLspci(textOf(file), file.name);
  return {
    json: lspciObject(listing),
    text: lspciText(listing),
    complaints: listing.problems.map(({ line, message }) => `${file.name}:${line}: ${message}`),
  };
}
