import { describe, expect, it } from 'vitest';
import { formatSbdf } from '../frames/addresses.ts';
import { PCI_FUNC_ALL, parsePciSpec, pciDeviceDefaults, pciSbdf } from './pci-spec.ts';

describe('PCI_SPEC_STRING', () => {
  it('reads address, virtual slot and options, the last of each winning', () => {
    const spec = parsePciSpec('36:00.0@1e,seize=1,rdm_policy=Relaxed,seize=0');
    expect(spec.ok && spec.pci).toMatchObject({
      bus: 0x36,
      vdevfn: 0xf0,
      seize: false,
      rdmPolicy: 'relaxed',
      vfuncMask: 1,
    });
    expect(spec.ok && formatSbdf(pciSbdf(spec.pci))).toBe('0000:36:00.0');
  });

  it('takes a star for all functions, and a name instead of an address', () => {
    const all = parsePciSpec('bdf=00:02.*');
    expect(all.ok && all.pci.vfuncMask).toBe(PCI_FUNC_ALL);
    expect(parsePciSpec('name=gpu').ok).toBe(true);
    expect(parsePciSpec('00:02.0,name=gpu').ok).toBe(false);
  });

  it('starts from the global defaults', () => {
    const spec = parsePciSpec('01:00.0', { ...pciDeviceDefaults, permissive: true, rdmPolicy: 'relaxed' });
    expect(spec.ok && spec.pci).toMatchObject({ permissive: true, rdmPolicy: 'relaxed' });
  });

  it('refuses what is out of range, unknown or incomplete, with libxl error numbers', () => {
    expect(parsePciSpec('00:20.0')).toEqual({ ok: false, rc: -6 });
    expect(parsePciSpec('00:02.0,foo=1')).toEqual({ ok: false, rc: -6, report: 'Unknown PCI_SPEC_STRING option: foo' });
    expect(parsePciSpec('00:02.0,rdm_policy=x')).toEqual({ ok: false, rc: -3, report: 'Unknown RDM policy: x' });
  });
});
