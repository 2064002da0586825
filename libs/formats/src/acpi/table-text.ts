// What the texts of both tables share: the heading line, the columns, the findings at the end.
import type { TableFinding } from './finding.ts';
import type { TableHeader } from './table-header.ts';

const OFFSET_WIDTH = 7;
const TYPE_WIDTH = 9;

export function headerLine(header: TableHeader): string {
  const maker = [header.oem_id, header.oem_table_id].map((text) => text.trim()).filter((text) => text !== '');
  const printable = maker.join(' ').replaceAll(/[^ -~]/g, '.');
  return `${header.signature} of ${printable || 'nobody'}, revision ${header.revision}, ${header.length} bytes, checksum ok`;
}

/** `offset` null: belongs to the row above. */
export function row(offset: number | string | null, type: string, what: string): string {
  const at = typeof offset === 'number' ? `0x${offset.toString(16)}` : (offset ?? '');
  return `${at.padEnd(OFFSET_WIDTH)} ${type.padEnd(TYPE_WIDTH)} ${offset === null ? '  ' : ''}${what}`;
}

export function findingLines(findings: readonly TableFinding[], anomalies: readonly string[]): string[] {
  if (findings.length === 0 && anomalies.length === 0) return ['', 'nothing remarkable'];
  return [
    '',
    ...anomalies.map((text) => `warning  ${text}`),
    ...findings.flatMap(({ severity, what, remedy, offset }) => [
      `${severity.padEnd(8)} ${what} (at 0x${offset.toString(16)})`,
      `         → ${remedy}`,
    ]),
  ];
}
