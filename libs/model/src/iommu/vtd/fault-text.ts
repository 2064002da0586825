// VT-d fault reasons and the lines Xen prints for them, word for word.
import { formatSbdf, type Sbdf } from '../../frames/addresses.ts';

export const faultReason = {
  noRootEntry: 1,
  noContextEntry: 2,
  invalidContextEntry: 3,
  beyondWidth: 4,
  noWrite: 5,
  noRead: 6,
  nextTableInvalid: 7,
  reservedInPte: 0xc,
  blocked: 0xd,
} as const;

const texts: Readonly<Record<number, string>> = {
  0: 'Software',
  1: 'Present bit in root entry is clear',
  2: 'Present bit in context entry is clear',
  3: 'Invalid context entry',
  4: 'Access beyond MGAW',
  5: 'PTE Write access is not set',
  6: 'PTE Read access is not set',
  7: 'Next page table ptr is invalid',
  8: 'Root table address invalid',
  9: 'Context table ptr is invalid',
  10: 'non-zero reserved fields in RTP',
  11: 'non-zero reserved fields in CTP',
  12: 'non-zero reserved fields in PTE',
  13: 'Blocked a DMA translation request',
};

export const vtdFaultText = (reason: number): string => texts[reason] ?? 'Unknown';

/** `fault addr` is the page's address in hex without 0x; a frame of 36 bits times 4096 is exact. */
export function vtdFaultLines(unit: number, device: Sbdf, dfn: number, write: boolean, reason: number): string[] {
  return [
    `[VT-D]DMAR:[DMA ${write ? 'Write' : 'Read'}] Request device [${formatSbdf(device)}] fault addr ${(dfn * 4096).toString(16)}`,
    `[VT-D]DMAR: reason ${reason.toString(16).padStart(2, '0')} - ${vtdFaultText(reason)} on iommu:${unit}`,
  ];
}
