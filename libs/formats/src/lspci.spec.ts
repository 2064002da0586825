import { describe, expect, it } from 'vitest';
import { sampleListings } from '../test-support/sample-texts.ts';
import { isDisplay, type LspciDevice, parseLspci } from './lspci.ts';
import { lspciText } from './lspci-inspection.ts';

const [verbose = '', brief = ''] = sampleListings.map((bytes) => new TextDecoder().decode(bytes));

function device(text: string, bdf: string): LspciDevice {
  const found = parseLspci(text).devices.find((each) => each.bdf === bdf);
  if (found === undefined) throw new Error(`${bdf} is not listed`);
  return found;
}

describe('an lspci listing', () => {
  it('gives BARs with their size, the ROM, the group, the driver and the capabilities', () => {
    expect(device(verbose, '01:00.0')).toMatchObject({
      classCode: '0300',
      ids: '10de:2203',
      bars: [
        { region: 0, addr: '81000000', kind: '32-bit, non-prefetchable', flags: '', size: 2 ** 24 },
        { region: 1, addr: '6000000000', flags: '[disabled]', size: 2 ** 35 },
        { region: 3, addr: '<unassigned>', size: null },
      ],
      rom: { addr: '82000000', size: 2 ** 19 },
      iommuGroup: 1,
      driver: 'vfio-pci',
      express: 'Legacy Endpoint',
      ats: true,
      resizableBar: true,
      sriov: true,
      flReset: true,
    });
  });

  it("does not take the BARs of an SR-IOV device's virtual functions for its own", () => {
    expect(device(verbose, '01:00.0').bars).toHaveLength(3);
  });

  it("gives a bridge's buses and windows", () => {
    expect(device(verbose, '00:01.0')).toMatchObject({
      bus: { primary: '00', secondary: '01', subordinate: '03' },
      windows: ['81600000-817fffff', 'pref [disabled]'],
    });
  });

  it('is read in the short form, with a segment, and in numbers only', () => {
    expect(device(brief, '0000:01:00.0')).toMatchObject({
      iommuGroup: 14,
      bars: [{ region: null, flags: '[virtual]', size: 2 ** 28 }],
      rom: { addr: '000c0000', size: 2 ** 17 },
      flReset: null,
    });
    const numeric = device('00:02.0 0300: 8086:0412 (rev 06)\n', '00:02.0');
    expect(numeric).toMatchObject({ classCode: '0300', ids: '8086:0412' });
    expect(isDisplay(numeric)).toBe(true);
  });

  it("takes a slot's group for a function that an excerpt cuts off", () => {
    const cut = `${brief}0000:01:00.1 Audio device: NVIDIA Corporation (rev a1)\n\tFlags: bus master\n`;
    expect(device(cut, '0000:01:00.1')).toMatchObject({ iommuGroup: 14, groupInferred: true });
  });

  it('is shown as a table', () => {
    expect(lspciText(parseLspci(verbose))).toContain('BAR 1    6000000000    32 GiB  64-bit, prefetchable [disabled]');
  });
});
