// The machine a command is about: a host description, or the files of a real machine (firmware's table, boot log, lspci listing).
// Owns reading them and what is said when one of them cannot be read; what they mean is libs/preflight's.
import { basename, extname, resolve } from 'node:path';
import { parseDmar } from '#formats/acpi/dmar';
import { FormatError } from '#formats/acpi/format-error';
import { parseIvrs } from '#formats/acpi/ivrs';
import { tableBytes } from '#formats/acpi/table-source';
import { shownPath } from '#formats/guest-text';
import { loadHost } from '#formats/host-file';
import { OperatorError } from '#formats/operator-error';
import { machineOfFirmware } from '#preflight/firmware/firmware-machine';
import type { FirmwareInputs } from '#preflight/firmware/inputs';
import { machineOfHost } from '#preflight/host-machine';
import type { Machine } from '#preflight/machine';
import { repositoryRoot } from '../repository.ts';
import { readInput } from './inspect/inspect.ts';
import { type InspectedFile, readTable, textOf } from './inspect/inspector.ts';

export interface MachineOptions {
  readonly host?: string;
  /** DMAR or IVRS: whichever the file holds. */
  readonly dmar?: string;
  readonly dmesg?: string;
  readonly lspci?: string;
  readonly name?: string;
}

const refuse = (file: string, message: string, remedy: string): OperatorError =>
  new OperatorError([{ file, message, remedy }]);

export function readMachine(options: MachineOptions): Machine {
  const { host, dmar, dmesg, lspci } = options;
  const real = [dmar, dmesg, lspci].some((file) => file !== undefined);
  if (host !== undefined && real) {
    throw refuse(
      host,
      'a host description and the files of a real machine were both given',
      'give --host, or --dmar, --dmesg and --lspci',
    );
  }
  if (host !== undefined) return machineOfHost(loadHost(resolve(host), shownPath(resolve(host), repositoryRoot)));
  if (!real)
    throw refuse(
      'hostloom',
      'no machine was named',
      'give --host hosts/FILE.yaml, or --dmar, --dmesg and --lspci of a real machine',
    );
  return machineOfFirmware(firmwareInputs(options));
}

export function firmwareInputs({ dmar, dmesg, lspci, name }: MachineOptions): FirmwareInputs {
  return {
    name: name ?? nameFrom(dmar ?? dmesg ?? lspci ?? 'machine'),
    ...(dmar === undefined ? {} : tableOf(dmar)),
    ...(dmesg === undefined ? {} : { log: { file: dmesg, text: textOf(fileOf(dmesg)) } }),
    ...(lspci === undefined ? {} : { lspci: { file: lspci, text: textOf(fileOf(lspci)) } }),
  };
}

/** A file's name without its ending, in the letters that a host's name may have. */
function nameFrom(file: string): string {
  const base = basename(file, extname(file))
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 60);
  return base === '' ? 'machine' : base;
}

/** A DMAR table, or AMD's IVRS under the same option. */
function tableOf(name: string): Pick<FirmwareInputs, 'dmar' | 'ivrs'> {
  const file = fileOf(name);
  if (holdsIvrs(file)) return { ivrs: { file: name, table: readTable(file, 'IVRS', parseIvrs) } };
  return { dmar: { file: name, table: readTable(file, 'DMAR', parseDmar) } };
}

function holdsIvrs({ bytes }: InspectedFile): boolean {
  const signature = String.fromCharCode(...bytes.subarray(0, 4));
  if (signature === 'IVRS' || signature === 'DMAR') return signature === 'IVRS';
  try {
    return tableBytes(bytes, 'IVRS') !== bytes;
  } catch (error) {
    if (error instanceof FormatError) return false; // what is wrong is told of a DMAR table, the usual one
    throw error;
  }
}

function fileOf(name: string): InspectedFile {
  const file = readInput(name);
  if (file.bytes.length > 0) return file;
  throw refuse(name, 'the file is empty', 'dump it again; dmesg and /sys/firmware/acpi/tables need root');
}
