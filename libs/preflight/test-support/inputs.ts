// Inputs of a machine for specs: a table as bytes, DMAR or IVRS, and texts.
import { parseDmar } from '#formats/acpi/dmar';
import { parseIvrs } from '#formats/acpi/ivrs';
import type { FirmwareInputs } from '../src/firmware/inputs.ts';

export function firmwareInputsFor(
  table: Uint8Array,
  { log, lspci }: { readonly log?: string; readonly lspci?: string },
): FirmwareInputs {
  const ivrs = String.fromCharCode(...table.subarray(0, 4)) === 'IVRS';
  return {
    name: 'spec',
    ...(ivrs
      ? { ivrs: { file: 'IVRS', table: parseIvrs(table) } }
      : { dmar: { file: 'DMAR', table: parseDmar(table) } }),
    ...(log === undefined ? {} : { log: { file: 'log', text: log } }),
    ...(lspci === undefined ? {} : { lspci: { file: 'lspci', text: lspci } }),
  };
}
