// `hostloom host import`: a real machine's files become a host description that every other command takes.
import { writeFileSync } from 'node:fs';
import { parseHost } from '#formats/host-file';
import { OperatorError } from '#formats/operator-error';
import { machineOfFirmware } from '#preflight/firmware/firmware-machine';
import { hostYaml } from '#preflight/host-yaml';
import type { Output } from '../terminal.ts';
import { firmwareInputs, type MachineOptions } from './machine-input.ts';

export interface ImportOptions extends Omit<MachineOptions, 'host'> {
  readonly output?: string;
}

export function hostImportCommand(options: ImportOptions, output: Output): number {
  const { dmar, dmesg, lspci } = options;
  if ([dmar, dmesg, lspci].every((file) => file === undefined)) {
    const message = 'nothing to import from';
    throw new OperatorError([
      {
        file: 'hostloom',
        message,
        remedy: 'give at least one of --dmar, --dmesg and --lspci; all three make a whole machine',
      },
    ]);
  }
  const machine = machineOfFirmware(firmwareInputs(options));
  const text = hostYaml(machine);
  // What cannot be read back is not written: the message says what of the machine the description does not allow.
  const host = parseHost(text, options.output ?? 'the imported host');
  for (const complaint of machine.complaints) output.warn(complaint);
  for (const { text: assumed } of machine.assumptions) output.warn(`assumed: ${assumed}`);
  if (options.output === undefined) {
    output.line(text.trimEnd());
    output.json({ host: text, assumptions: machine.assumptions, complaints: machine.complaints });
    return 0;
  }
  write(options.output, text);
  output.line(
    `${options.output}: ${host.devices.length} devices, ${host.iommuUnits.length} IOMMU units, ${host.rmrrs.length} reserved regions, ${machine.assumptions.length} assumptions`,
  );
  output.line(`next: hostloom preflight --host ${options.output} GUEST.cfg, hostloom up ${options.output}`);
  output.json({ file: options.output, assumptions: machine.assumptions, complaints: machine.complaints });
  return 0;
}

function write(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new OperatorError([
      { file, message: `cannot be written (${why})`, remedy: 'name a file in a directory that is there' },
    ]);
  }
}
