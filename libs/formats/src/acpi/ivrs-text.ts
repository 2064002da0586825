// An IVRS table as a person reads it: one line a block, its devices below it, then what is worth knowing. Owns the words.
import { sizeText } from '../memory-map-log/inspection.ts';
import type { HostMapRegion } from './host-regions.ts';
import type { IvhdEntry } from './ivhd-entries.ts';
import { ivmdFindings } from './ivmd-findings.ts';
import type { Ivmd, IvrsBlock, IvrsTable } from './ivrs.ts';
import { findingLines, headerLine, row } from './table-text.ts';

export interface IvrsTextOptions {
  readonly map?: readonly HostMapRegion[];
}

export function ivrsText(table: IvrsTable, { map }: IvrsTextOptions = {}): string {
  let ivmd = 0;
  const blocks = table.structures.flatMap((block) => {
    const name =
      block.type === 'IVMD' ? `IVMD ${ivmd++}` : block.type === 'IVHD' ? `IVHD ${block.code.slice(2)}h` : block.type;
    const entries = block.type === 'IVHD' ? entryTexts(block.entries) : [];
    return [row(block.offset, name, blockText(block)), ...entries.map((text) => row(null, '', text))];
  });
  return [
    headerLine(table.header),
    `physical addresses of ${table.pa_size} bits, virtual of ${table.va_size}`,
    '',
    row('offset', 'type', 'what'),
    ...blocks,
    ...findingLines(ivmdFindings(table, map), table.anomalies),
  ].join('\n');
}

const digits = (hexadecimal: string): string => hexadecimal.slice(2);

function blockText(block: IvrsBlock): string {
  switch (block.type) {
    case 'IVHD': {
      const segment = block.segment === 0 ? '' : `, segment ${block.segment}`;
      return `unit ${block.device_id} with registers at ${digits(block.iommu_base)}${segment}`;
    }
    case 'IVMD':
      return `${rangeText(block)}  ${devicesText(block)}, ${accessText(block)}`;
    case 'IVMDR':
      return `type ${block.code}, device ${block.device_id}, not described anywhere: ${block.raw}`;
    case 'UNKNOWN':
      return `type ${block.code}, ${block.length} bytes: ${block.raw}`;
  }
}

function rangeText({ start, end, mem_length }: Ivmd): string {
  return mem_length === '0x0'
    ? `${digits(start)}  no range`
    : `${digits(start)}-${digits(end)}  ${sizeText(Number(mem_length))}`;
}

function devicesText({ applies_to, device_id, aux }: Ivmd): string {
  switch (applies_to) {
    case 'all':
      return 'all devices';
    case 'select':
      return device_id;
    case 'range':
      return `every device from ${device_id} to ${aux}`;
  }
}

function accessText({ exclusion, unity, read, write }: Ivmd): string {
  if (exclusion) return 'excluded from translation';
  const rights = `${read ? 'r' : '-'}${write ? 'w' : '-'}`;
  return unity ? `mapped one to one ${rights}` : `reserved ${rights}`;
}

/** A range in one line, padding left out. */
function entryTexts(entries: readonly IvhdEntry[]): string[] {
  const texts: string[] = [];
  let open: string | null = null;
  for (const entry of entries) {
    if (entry.type === '0x4') {
      texts.push(`${open ?? 'devices up'} to ${entry.id}`);
      open = null;
      continue;
    }
    if (open !== null) texts.push(`${open} on`);
    open = isRangeStart(entry) ? `devices ${entryText(entry)}` : null;
    if (open === null && entry.type !== '0x0' && entry.type !== '0x40') texts.push(entryText(entry));
  }
  if (open !== null) texts.push(`${open} on`);
  return texts;
}

const isRangeStart = ({ type }: IvhdEntry): boolean => type === '0x3' || type === '0x43' || type === '0x47';

function entryText(entry: IvhdEntry): string {
  const data = entry.data === 0 ? '' : `  data 0x${entry.data.toString(16)}`;
  if ('alias' in entry) return `${entry.id} as ${entry.alias}${data}`;
  if ('variety' in entry) return `${entry.variety} ${entry.handle} as ${entry.source}${data}`;
  if ('hid' in entry) return `ACPI ${entry.hid} ${entry.uid} as ${entry.id}${data}`;
  if ('extended' in entry) return `${entry.id}  extended ${entry.extended}${data}`;
  if (entry.type === '0x1') return `all devices${data}`;
  if (entry.type === '0x2' || entry.type === '0x3') return `${entry.id}${data}`;
  return `entry ${entry.type} ${entry.id}${data}`;
}
