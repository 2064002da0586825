import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { constructRdm, type RdmRequest } from './construct-rdm.ts';

const usb = { startPfn: 0xab80a, nrPages: 0x1e, devices: ['0000:00:14.0'] };
const igd = { startPfn: 0xad000, nrPages: 0x2800, devices: ['0000:00:02.0'] };
const host = { all: () => [usb, igd], forDevice: (d: string) => [usb, igd].filter((r) => r.devices.includes(d)) };
const request: RdmRequest<string> = {
  lowmemEnd: 0xf0000000,
  highmemEnd: 0x10f800000,
  hap: true,
  strategy: 'host',
  policy: 'relaxed',
  boundaryMemkb: 2097152,
  pcidevs: [],
};

describe('reserved device memory against guest RAM', () => {
  it('low RAM ends below the first region, on a 2 MiB boundary with HAP, and what it loses goes above 4 GiB', () => {
    expect(constructRdm(request, host)).toMatchObject({ ok: true, lowmemEnd: 0xab800000, highmemEnd: 0x154000000 });
    expect(constructRdm({ ...request, hap: false }, host).lowmemEnd).toBe(0xab80a000);
  });

  it('without a strategy only the regions of assigned devices count, and unset means strict', () => {
    const plan = constructRdm(
      { ...request, strategy: 'ignore', pcidevs: [{ device: '0000:00:02.0', rdmPolicy: 'invalid' }] },
      host,
    );
    expect(plan).toMatchObject({ lowmemEnd: 0xad000000, rdms: [{ start: 0xad000000, policy: 'strict' }] });
  });

  it('a region below the boundary is a conflict: strict stops the build, relaxed hides the region', () => {
    const low = { ...request, boundaryMemkb: 3145728 };
    expect(constructRdm({ ...low, policy: 'strict' }, host)).toMatchObject({
      ok: false,
      errors: ['RDM conflict at 0xab80a000.'],
    });
    const relaxed = constructRdm(low, host);
    expect(relaxed.rdms.map((r) => r.policy)).toEqual(['invalid', 'invalid']);
    expect(relaxed.warnings).toHaveLength(2);
  });

  it('never changes how much RAM the guest has', () => {
    const region = fc.record({
      startPfn: fc.integer({ min: 0, max: 0xfffff }),
      nrPages: fc.integer({ min: 1, max: 0x4000 }),
    });
    fc.assert(
      fc.property(fc.array(region, { maxLength: 6 }), fc.boolean(), (regions, hap) => {
        const plan = constructRdm({ ...request, hap }, { all: () => regions, forDevice: () => [] });
        expect(plan.lowmemEnd + plan.highmemEnd).toBe(request.lowmemEnd + request.highmemEnd);
      }),
    );
  });
});
