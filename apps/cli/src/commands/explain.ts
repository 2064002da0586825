// `hostloom explain 'LINE'`: why Xen, Linux or a toolstack printed a line about a fault or a refusal. Reads what is given of the
// machine and the guest, and prints; what the line means is the formats' affair, where a guest has what is preflight's.
import { basename } from 'node:path';
import { parseDmar } from '#formats/acpi/dmar';
import { parseIvrs } from '#formats/acpi/ivrs';
import { type Explanation, explainLines, explanationText } from '#formats/fault-line/explanation';
import { emptyContext, type FaultContext } from '#formats/fault-line/fault-context';
import { loadHost } from '#formats/host-file';
import { OperatorError, type Problem } from '#formats/operator-error';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { faultContextOf, faultContextOfGuest } from '#preflight/fault-context';
import { machineOfFirmware } from '#preflight/firmware/firmware-machine';
import { machineOfHost } from '#preflight/host-machine';
import type { Machine } from '#preflight/machine';
import { EXIT_FAILED, EXIT_OK } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import { awaitInput } from './inspect/inspect.ts';
import { readTable, textOf } from './inspect/inspector.ts';

export interface ExplainFlags {
  readonly host?: string;
  readonly dmar?: string;
  readonly ivrs?: string;
  readonly dmesg?: string;
  readonly lspci?: string;
  readonly cfg?: string;
}

/** Lines as arguments; `-` stands for those on standard input. */
export async function explainCommand(lines: readonly string[], flags: ExplainFlags, output: Output): Promise<number> {
  const given: string[] = [];
  for (const line of lines) given.push(line === '-' ? textOf(await awaitInput(line)) : line);
  const text = given.join('\n');
  const context = await contextOf(flags, output);
  const { explanations, unread, complaints } = explainLines(text, context);
  for (const complaint of complaints) output.warn(complaint);
  output.json({ explanations: explanations.map(explanationObject), unread });
  for (const explanation of explanations) output.line(explanationText(explanation, context));
  if (explanations.length === 0) {
    if (unread.length === 0) output.warn('no line was given: what there is to explain is empty');
    for (const { text: line } of unread) output.warn(`not understood: ${line}`);
    output.warn('    → give a whole line of xl dmesg, dmesg, libxl or QEMU about a fault, an RMRR or a refused device');
    return EXIT_FAILED;
  }
  for (const { line, text: skipped } of unread) output.warn(`line ${line} says nothing known: ${skipped}`);
  return EXIT_OK;
}

const explanationObject = ({ event, address, cause, alsoPossible }: Explanation) => ({
  line: event.text,
  kind: event.kind,
  by: event.by,
  device: event.device,
  address: hexOf(event),
  access: event.access,
  reason: event.reason,
  detail: event.detail,
  range: event.range && { base: `0x${event.range.base.toString(16)}`, limit: `0x${event.range.limit.toString(16)}` },
  domain: event.domain,
  figures: event.figures,
  classified: address,
  cause,
  alsoPossible,
});

function hexOf({ address, wideAddress }: Explanation['event']): string | null {
  const digits = wideAddress ?? address?.toString(16);
  return digits === undefined ? null : `0x${digits}`;
}

async function contextOf(flags: ExplainFlags, output: Output): Promise<FaultContext> {
  const config = flags.cfg === undefined ? null : await guestOf(flags.cfg, output);
  const machine = await machineOf(flags);
  if (machine === null) return config === null ? emptyContext : faultContextOfGuest(config);
  for (const complaint of machine.complaints) output.warn(complaint);
  const context = faultContextOf(machine, config);
  if (context.guest?.refusal != null) output.warn(`${flags.cfg}: the guest is refused today: ${context.guest.refusal}`);
  return context;
}

async function machineOf(flags: ExplainFlags): Promise<Machine | null> {
  const { host, dmar, ivrs, dmesg, lspci } = flags;
  const others = [dmar, ivrs, dmesg, lspci].filter((file) => file !== undefined);
  if (host !== undefined) {
    if (others.length === 0) return machineOfHost(loadHost(host));
    throw new OperatorError([
      {
        file: host,
        message: 'both a host description and files of a machine are given',
        remedy: 'give --host, or the others',
      },
    ]);
  }
  const [first] = others;
  if (first === undefined) return null;
  const text = async (file: string): Promise<{ file: string; text: string }> => ({
    file,
    text: textOf(await awaitInput(file)),
  });
  return machineOfFirmware({
    name: basename(first),
    ...(dmar !== undefined && { dmar: { file: dmar, table: readTable(await awaitInput(dmar), 'DMAR', parseDmar) } }),
    ...(ivrs !== undefined && { ivrs: { file: ivrs, table: readTable(await awaitInput(ivrs), 'IVRS', parseIvrs) } }),
    ...(dmesg !== undefined && { log: await text(dmesg) }),
    ...(lspci !== undefined && { lspci: await text(lspci) }),
  });
}

async function guestOf(file: string, output: Output): Promise<GuestConfig> {
  const parsed = parseGuestConfig(textOf(await awaitInput(file)), file);
  for (const warning of parsed.warnings) output.warn(warning);
  if (parsed.ok) return parsed.config;
  const [first, ...rest] = parsed.errors.map(
    ({ line, message, remedy }): Problem => ({
      file,
      ...(line !== undefined && { line }),
      message,
      remedy: remedy ?? 'xl create says the same; correct the file',
    }),
  );
  throw new OperatorError(
    first === undefined ? [{ file, message: 'is refused', remedy: 'correct the file' }] : [first, ...rest],
  );
}
