import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { explainLines, explanationText } from './explanation.ts';
import { emptyContext, type FaultContext } from './fault-context.ts';

const codes = (text: string, context: FaultContext = emptyContext): string[] =>
  explainLines(text, context).explanations.map(({ cause }) => cause.code);

const FAULT = '(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:01:00.0] fault addr 7d0d6000';

const map = [
  { start: 0, end: 0x9fffffff, type: 'usable' },
  { start: 0xd0000000, end: 0xd0ffffff, type: 'reserved' },
  { start: 2 ** 32, end: 2 ** 33 - 1, type: 'usable' },
];
const withMap = { ...emptyContext, map };

describe('a fault line', () => {
  it('is read in the spellings of Xen and Linux, with date, host and level in front', () => {
    const spellings = [
      FAULT,
      `[2020-08-22 10:09:03] (XEN) [  297.542134] ${FAULT.slice(6)}, iommu reg = ffff82c00021d000`,
      '[   12.5] DMAR: [DMA Write] Request device [01:00.0] PASID ffffffff fault addr 7d0d6000 [fault reason 05] PTE Write access is not set',
      'Mar  1 10:00:00 host kernel: DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x7d0d6000 [fault reason 0x05] PTE Write access is not set',
      '(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:01:00.0 d1 addr 000000007d0d6000 flags 0x20 RW',
      '(XEN) AMD-Vi: IO_PAGE_FAULT: domain = 1, device id = 0x100, fault address = 0x7d0d6000, flags = 0x20',
    ];
    for (const line of spellings) {
      const [first] = explainLines(line, emptyContext).explanations;
      expect(first?.event, line).toMatchObject({ device: '0000:01:00.0', address: 0x7d0d6000, access: 'write' });
    }
  });

  it("takes its reason from the line below, in Xen's hexadecimal and in Linux's decimal", () => {
    const [xen] = explainLines(
      `${FAULT}\n(XEN) [VT-D]DMAR: reason 0c - non-zero reserved fields in PTE`,
      emptyContext,
    ).explanations;
    expect(xen).toMatchObject({ event: { reason: 12 }, cause: { code: 'RESERVED-BITS' } });
    const linux = 'DMAR: [DMA Read] Request device [05:00.0] PASID ffffffff fault addr ffe00000 [fault reason 12] x';
    expect(codes(linux)).toEqual(['RESERVED-BITS']);
  });

  it('is judged by where its address lies in the host', () => {
    const at = (address: string): string[] => codes(FAULT.replace('7d0d6000', address), withMap);
    expect(at('300000000')).toEqual(['DMA-ABOVE-RAM']);
    expect(at('d0001000')).toEqual(['DMA-TO-FIRMWARE-MEMORY']);
    expect(at('e0000000')).toEqual(['DMA-TO-MMIO-HOLE']);
    expect(at('7d0d6000')).toEqual(['GUEST-NOT-POPULATED']);
    expect(at('0')).toEqual(['NULL-ADDRESS']);
  });

  it('is judged by the reserved ranges and whom they are for', () => {
    const reserved = (device: string, base = 0xd0000000): FaultContext => ({
      ...withMap,
      reserved: [{ base, limit: base + 0xffff, devices: [device], place: 'the table' }],
    });
    const line = FAULT.replace('7d0d6000', 'd0001000');
    expect(codes(line, reserved('0000:01:00.0'))).toEqual(['RMRR-NOT-MAPPED']);
    expect(codes(line, reserved('0000:00:1d.0'))).toEqual(['RMRR-SCOPE-INCOMPLETE']);
    expect(codes(line, reserved('0000:01:00.1', 0xd0008000))).toEqual(['RMRR-SCOPE-INCOMPLETE']);
    expect(codes(FAULT.replace('7d0d6000', 'b0001000'), reserved('0000:01:00.0', 0xb0000000))).toEqual([
      'RMRR-IN-HOLE',
    ]);
  });

  it('is judged by what the guest has there, where the guest is given', () => {
    const guest = { name: 'g', podMib: 0, devices: ['0000:01:00.0'], regions: [], refusal: null };
    const ram = [{ start: 0, end: 0x7fffffff, isRam: true, what: 'RAM' }];
    expect(codes(FAULT, { ...withMap, guest: { ...guest, podMib: 1024, regions: ram } })).toEqual([
      'POD-NOT-POPULATED',
    ]);
    expect(codes(FAULT, { ...withMap, guest: { ...guest, podMib: 1024, regions: null } })).toEqual([
      'POD-NOT-POPULATED',
    ]);
    expect(codes(FAULT, { ...withMap, guest: { ...guest, regions: ram } })).toEqual(['GUEST-PAGE-GONE']);
    expect(codes(FAULT, { ...withMap, guest })).toEqual(['GUEST-HAS-NOTHING-THERE']);
    expect(codes(FAULT, { ...withMap, guest: { ...guest, devices: [], regions: ram } })).toEqual([
      'GUEST-NOT-POPULATED',
    ]);
  });

  it('of an address from 2^53 on keeps its digits and is never taken for a page populated on demand', () => {
    const line = FAULT.replace('7d0d6000', 'fffffffdf8000000');
    const guest = { name: 'g', podMib: 1024, devices: ['0000:01:00.0'], regions: null, refusal: null };
    for (const context of [emptyContext, withMap, { ...withMap, guest }]) {
      const [first] = explainLines(line, context).explanations;
      expect(first).toMatchObject({
        event: { wideAddress: 'fffffffdf8000000' },
        cause: { code: 'ADDRESS-BEYOND-GUESTS' },
      });
      expect(first?.alsoPossible).toEqual([]);
      expect(first === undefined ? '' : explanationText(first, context)).toContain('address fffffffdf8000000');
    }
    expect(codes(`${line}\n(XEN) [VT-D]DMAR: reason 04 - x`)).toEqual(['BEYOND-MGAW']);
    expect(codes(FAULT.replace('7d0d6000', '20000000000000'))).toEqual(['ADDRESS-BEYOND-GUESTS']);
    expect(codes(FAULT.replace('7d0d6000', '1ffffffffff000'))).not.toContain('ADDRESS-BEYOND-GUESTS');
  });

  it('that is none is said to be not understood', () => {
    const { explanations, unread } = explainLines('hello\n\nworld', emptyContext);
    expect(explanations).toEqual([]);
    expect(unread.map(({ line }) => line)).toEqual([1, 3]);
  });

  it('is shown with the address, the cause and what to do', () => {
    const [first] = explainLines(FAULT, withMap).explanations;
    const text = first === undefined ? '' : explanationText(first, withMap);
    expect(text).toContain("address  The host's map has 7d0d6000 in 0-9fffffff, usable.");
    expect(text).toContain('do       set memory equal to maxmem');
  });
});

describe("a line about the IOMMU's tables", () => {
  it('is understood for map, unmap and flush, and takes the crash after it', () => {
    const map = '(XEN) d1: IOMMU mapping dfn 00100 to mfn 00200 failed: -12';
    const crash = '(XEN) domain_crash called from iommu.c: d1 IOMMU mapping failed';
    const [first, ...rest] = explainLines(`${map}\n${crash}`, emptyContext).explanations;
    expect(rest).toEqual([]);
    expect(first).toMatchObject({
      event: { domain: 1, figures: { dfn: 0x100, mfn: 0x200, errno: -12 } },
      cause: { code: 'IOMMU-MAP-FAILED' },
    });
    expect(first?.cause.text).toContain('ENOMEM');
    expect(codes('(XEN) d1: IOMMU unmapping dfn 00100 failed: -12')).toEqual(['IOMMU-UNMAP-FAILED']);
    const flush = 'd0: IOMMU IOTLB flush failed: -110, dfn 00100, page count 512 flags 3';
    const [flushed] = explainLines(flush, emptyContext).explanations;
    expect(flushed).toMatchObject({
      event: { domain: 0, figures: { dfn: 0x100, pages: 512, flags: 3, errno: -110 } },
      cause: { code: 'IOMMU-FLUSH-FAILED' },
    });
    expect(flushed?.cause.text).toContain('Domain 0 goes on');
  });
});

/** Causes that agree with what is known to have happened, by class of the collection. */
const agreeing: Readonly<Record<string, readonly string[]>> = {
  'rmrr-in-hole': ['RMRR-IN-HOLE', 'IGD-STOLEN-MEMORY'],
  'dma-above-ram': ['DMA-ABOVE-RAM'],
  'rmrr-scope-incomplete': ['RMRR-SCOPE-INCOMPLETE'],
  'shared-rmrr-refused': ['SHARED-RMRR-REFUSED', 'ASSIGN-FAILED'],
  toolstack: ['NO-RESET', 'SHARED-RMRR-REFUSED', 'NOT-ASSIGNABLE'],
  'pod-exhausted': ['POD-EXHAUSTED'],
  'pod-passthrough': ['GUEST-NOT-POPULATED'],
  'vfio-rmrr': ['VFIO-RMRR', 'RMRR-RELAXED'],
  'vfio-ivmd': ['VFIO-DIRECT-MAP'],
  'ivmd-overwrite': ['DIRECT-MAP-OVERWRITTEN'],
  'rmrr-bad': ['RMRR-IN-HOLE', 'RMRR-BAD', 'RMRR-SCOPE-BROKEN'],
  'dmar-bad': ['DMAR-BROKEN'],
  'rmrr-zero': ['RMRR-ZERO'],
  'kdump-stale-dma': ['STALE-DMA'],
  'dma-write': ['BOOT-HANDOVER', 'DMA-TO-MMIO-HOLE'],
  'dma-null': ['NULL-ADDRESS'],
  'amd-iopf': ['BEYOND-MAPPING', 'STALE-DMA'],
  'reserved-pte': ['RESERVED-BITS'],
  superpage: ['RESERVED-BITS'],
  'beyond-mgaw': ['BEYOND-MGAW'],
  'igd-stolen': ['IGD-STOLEN-MEMORY'],
  'igd-vm': ['IGD-STOLEN-MEMORY', 'DEVICE-WITHOUT-TABLES'],
  'me-tpm': ['MANAGEMENT-ENGINE-MEMORY'],
  'ip-u': ['OWN-MMU-DEVICE'],
  'boot-handover': ['BOOT-HANDOVER'],
  intremap: ['INTERRUPT-REMAPPING'],
  'pvpt-claim': ['BAR-OVER-GUEST-RAM'],
  'e820-host-collision': ['E820-HOST-COLLISION'],
};

const file = join(process.env.HOSTLOOM_INPUTS ?? '', 'fault-lines.jsonl');
const collected = process.env.HOSTLOOM_INPUTS !== undefined && existsSync(file);

describe.skipIf(!collected)('collected lines (set HOSTLOOM_INPUTS to their directory)', () => {
  const items = collected
    ? readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : [];
  it.each(items.map((line) => JSON.parse(line)))('$id $cls is understood, and its cause agrees', ({ lines, cls }) => {
    const { explanations, unread } = explainLines(lines.join('\n'), emptyContext);
    expect(unread).toEqual([]);
    expect(explanations.length).toBeGreaterThan(0);
    for (const { cause } of explanations) expect(agreeing[cls]).toContain(cause.code);
  });
});
