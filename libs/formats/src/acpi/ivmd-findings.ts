// What is wrong or remarkable about the memory ranges of an IVRS table, by themselves and against the host's memory map. Judges
// as Xen's parse_ivmd_block does; refuses nothing.
import type { TableFinding } from './finding.ts';
import { type HostMapRegion, piecesOf, pieceText, placementOf } from './host-regions.ts';
import type { Ivmd, IvrsTable } from './ivrs.ts';

const PAGE_SIZE = 4096;

/** With `map` also how each range lies in the host's memory. */
export function ivmdFindings(
  table: Pick<IvrsTable, 'structures' | 'pa_size'>,
  map?: readonly HostMapRegion[],
): TableFinding[] {
  return table.structures
    .filter((block) => block.type === 'IVMD')
    .flatMap((ivmd, index) => rangeFindings(ivmd, index, table.pa_size, map));
}

function rangeFindings(
  ivmd: Ivmd,
  index: number,
  width: number,
  map: readonly HostMapRegion[] | undefined,
): TableFinding[] {
  const start = Number(ivmd.start);
  const size = Number(ivmd.mem_length);
  const finding = (code: string, severity: TableFinding['severity'], text: string, remedy: string): TableFinding => ({
    code,
    severity,
    offset: ivmd.offset,
    what: `IVMD ${index}: ${text}`,
    remedy,
  });
  if (size === 0) return [finding('ivmd-zero-bytes', 'warning', 'zero bytes', 'it reserves nothing')];
  const findings: TableFinding[] = [];
  if (start + size > 2 ** width) {
    const text = `reaches beyond the host's ${width} address bits`;
    findings.push(finding('ivmd-beyond-host-width', 'blocker', text, 'ask for newer firmware'));
    return findings;
  }
  if (start % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0) {
    const remedy =
      'whole pages are mapped, so the device reaches what lies beside the range on its first and last page';
    findings.push(finding('ivmd-unaligned', 'info', 'not whole pages', remedy));
  }
  if (map !== undefined) {
    const pieces = piecesOf(start, start + size - 1, map);
    const where = pieces.map(pieceText).join(', ');
    const placement = placementOf(pieces);
    if (placement === 'in RAM') {
      findings.push(finding('ivmd-in-ram', 'blocker', `lies in RAM: ${where}`, 'Xen refuses the range (-EIO)'));
    } else if (placement === 'not entirely reserved') {
      const remedy = 'Xen warns that it is not (entirely) in reserved memory and reserves it';
      findings.push(finding('ivmd-not-reserved', 'warning', `not entirely in reserved memory: ${where}`, remedy));
    }
  }
  return findings;
}
