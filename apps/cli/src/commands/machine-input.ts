// The machine a command is about: a host description, or the files of a real machine (firmware's table, boot log, lspci listing).
// Owns reading them and what is said when one of them cannot be read; what they mean is libs/preflight's.
import { readFileSync } from 'node:fs';
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

export interface MachineOptions {
  readonly host?: string;
  readonly dmar?: string;
  readonly dmesg?: string;
  readonly lspci?: string;
  readonly name?: string;
}

/** 16 MiB: more than any log or table that is one machine's. */
const MAX_BYTES = 2 ** 24;

const refuse = (file: string, message: string, remedy: string): OperatorError => new OperatorError([{ file, message, remedy }]);

export function readMachine(options: MachineOptions): Machine {
  const { host, dmar, dmesg, lspci } = options;
  const real = [dmar, dmesg, lspci].some((file) => file !== undefined);
  if (host !== undefined && real) {
    throw refuse(host, 'a host description and the files of a real machine were both given', 'give --host, or --dmar, --dmesg and --lspci');
  }
  if (host !== undefined) return machineOfHost(loadHost(resolve(host), shownPath(resolve(host), repositoryRoot)));
  if (!real) throw refuse('hostloom', 'no machine was named', 'give --host hosts/FILE.yaml, or --dmar, --dmesg and --lspci of a real machine');
  return machineOfFirmware(firmwareInputs(options));
}

export function firmwareInputs({ dmar, dmesg, lspci, name }: MachineOptions): FirmwareInputs {
  return {
    name: name ?? nameFrom(dmar ?? dmesg ?? lspci ?? 'machine'),
    ...(dmar === undefined ? {} : tableOf(dmar)),
    ...(dmesg === undefined ? {} : { log: { file: dmesg, text: textOf(dmesg) } }),
    ...(lspci === undefined ? {} : { lspci: { file: lspci, text: textOf(lspci) } }),
  };
}

/** A file's name without its ending, in the letters that a host's name may have. */
function nameFrom(file: string): string {
  const base = basename(file, extname(file)).replaceAll(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '').slice(0, 60);
  return base === '' ? 'machine' : base;
}

/** A DMAR table, or AMD's IVRS under the same option: whichever the file holds. */
function tableOf(file: string): Pick<FirmwareInputs, 'dmar' | 'ivrs'> {
  const bytes = bytesOf(file);
  try {
    return holdsIvrs(bytes)
      ? { ivrs: { file, table: parseIvrs(tableBytes(bytes, 'IVRS')) } }
      : { dmar: { file, table: parseDmar(tableBytes(bytes, 'DMAR')) } };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw refuse(file, error.message, error.remedy);
  }
}

function holdsIvrs(bytes: Uint8Array): boolean {
  const signature = String.fromCharCode(...bytes.subarray(0, 4));
  if (signature === 'IVRS' || signature === 'DMAR') return signature === 'IVRS';
  try {
    return tableBytes(bytes, 'IVRS') !== bytes;
  } catch (error) {
    if (error instanceof FormatError) return false; // then the message is about a DMAR table, the usual one
    throw error;
  }
}

const textOf = (file: string): string => new TextDecoder('utf-8').decode(bytesOf(file));

function bytesOf(file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw refuse(file, code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`, 'name a file that can be read');
  }
  if (bytes.length === 0) throw refuse(file, 'the file is empty', 'dump it again; /sys/firmware/acpi/tables and dmesg need root');
  if (bytes.length > MAX_BYTES) throw refuse(file, `${bytes.length} bytes are too many for one machine’s file`, 'keep the part that is about this machine’s boot');
  return bytes;
}
