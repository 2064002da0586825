import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseDmar } from '#formats/acpi/dmar';
import { OperatorError } from '#formats/operator-error';
import { sampleDmar, sampleIvrs } from '../../../../../libs/formats/test-support/sample-tables.ts';
import { acpidumpText, repaired } from '../../../../../libs/formats/test-support/table-writer.ts';
import { TerminalOutput } from '../../terminal.ts';
import { type InspectFlags, inspectCommand } from './inspect.ts';

const directory = mkdtempSync(join(tmpdir(), 'hostloom-inspect-'));
afterAll(() => rmSync(directory, { recursive: true }));

const [dmar = new Uint8Array()] = sampleDmar;
const [ivrs = new Uint8Array()] = sampleIvrs;

function fileOf(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** What the command writes to standard output. */
async function outputOf(kind: string, file: string, json: boolean, flags: InspectFlags = {}): Promise<string> {
  let written = '';
  const stdout = {
    write(text: string): boolean {
      written += text;
      return true;
    },
  };
  const stderr = { write: () => true, isTTY: false, columns: 80 };
  expect(await inspectCommand(kind, file, flags, new TerminalOutput({ json, stdout, stderr }))).toBe(0);
  return written;
}

const refusal = async (kind: string, file: string): Promise<string> => {
  try {
    await outputOf(kind, file, true);
  } catch (error) {
    if (error instanceof OperatorError) return error.message.replaceAll(directory, '');
    throw error;
  }
  throw new Error('the file was read');
};

describe('hostloom inspect', () => {
  it('prints one object with --json and a table a person reads without', async () => {
    const file = fileOf('DMAR', dmar);
    expect(JSON.parse(await outputOf('dmar', file, true))).toEqual(parseDmar(dmar));
    expect(await outputOf('dmar', file, false)).toContain('0x78    RMRR 0    7b800000-7fffffff  72 MiB\n');
    expect(await outputOf('ivrs', fileOf('IVRS', ivrs), false)).toContain('IVMD 2    97d9d000-97d9d000');
  });

  it('takes the same table from the text of acpidump, whatever its name', async () => {
    const file = fileOf('tables.txt', acpidumpText([{ name: 'DMAR', bytes: dmar }]));
    expect(JSON.parse(await outputOf('dmar', file, true))).toEqual(parseDmar(dmar));
  });

  it('resolves paths over bridges with an lspci, and says which bridge is missing without its like', async () => {
    const file = fileOf('DMAR', dmar);
    const bridge = (bdf: string, secondary: string): string =>
      `${bdf} PCI bridge: a bridge\n\tBus: primary=00, secondary=${secondary}, subordinate=09, sec-latency=0\n\n`;
    const both = fileOf('lspci', bridge('00:1c.4', '02') + bridge('02:00.0', '07'));
    const one = fileOf('lspci-one', bridge('00:1c.4', '02'));
    const path = 'endpoint bus 00: 1c.4 > 00.0 > 02.1 = ';
    expect(await outputOf('dmar', file, false)).toContain(`${path}unresolved (give --lspci)`);
    expect(await outputOf('dmar', file, false, { lspci: both })).toContain(`${path}07:02.1`);
    expect(await outputOf('dmar', file, false, { lspci: one })).toContain(
      `${path}unresolved (lspci shows no bridge 0000:02:00.0)`,
    );
  });

  it('lays reserved regions into the map of a boot log', async () => {
    const log = fileOf('dmesg', 'BIOS-e820: [mem 0x0000000000000000-0x000000007bffffff] usable\n');
    expect(await outputOf('dmar', fileOf('DMAR', dmar), false, { dmesg: log })).toContain(
      'blocker  RMRR 0: lies in RAM: 7b800000-7bffffff usable, 7c000000-7fffffff beyond RAM (at 0x78)',
    );
  });

  it('refuses with the file, the offset, the field and the remedy', async () => {
    expect(await refusal('dmar', fileOf('cut', repaired(dmar.slice(0, 60))))).toBe(
      '/cut: offset 0x30: DMAR.DRHD.length: 24 bytes are told, 12 are left in the DMAR\n' +
        '    → the table is cut off or damaged: dump it again',
    );
    expect(await refusal('dmar', join(directory, 'none'))).toContain('/none: cannot be read: no such file');
    expect(await refusal('dmra', 'x')).toContain('did you mean dmar?');
  });

  it('refuses a named pipe and a device instead of waiting for them', async () => {
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(await refusal('dmar', pipe)).toContain('/pipe: is neither a file nor a pipe of this command');
    expect(await refusal('dmar', '/dev/zero')).toContain('is neither a file nor a pipe of this command');
  });
});
