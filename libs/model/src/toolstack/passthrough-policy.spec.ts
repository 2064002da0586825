import { describe, expect, it } from 'vitest';
import { type PassthroughRequest, resolvePassthrough } from './passthrough-policy.ts';

const request: PassthroughRequest = {
  type: 'hvm',
  hap: true,
  numPcidevs: 1,
  numDtdevs: 0,
  passthrough: 'default',
  capHvmDirectio: true,
  capIommuHapPtShare: true,
  targetMemkb: 1024,
  maxMemkb: 1024,
  numVnumaNodes: 0,
  nestedhvm: false,
  altp2m: 'disabled',
  legacyAltp2mhvm: false,
  maxVcpus: 1,
  shadowMemkb: null,
  iommuMemkb: null,
};
const outcome = (change: Partial<PassthroughRequest>): string => {
  const result = resolvePassthrough({ ...request, ...change });
  return result.ok ? result.passthrough : result.message;
};

describe('the passthrough policy', () => {
  it('shares tables where it can, and says why it cannot', () => {
    expect(outcome({})).toBe('share_pt');
    expect(outcome({ capIommuHapPtShare: false })).toBe('sync_pt');
    expect(outcome({ capIommuHapPtShare: false, passthrough: 'share_pt' })).toBe(
      'passthrough="share_pt" not supported on this platform',
    );
  });

  it('the option counts, not the devices: PoD is refused with passthrough enabled and no device', () => {
    const pod = { numPcidevs: 0, targetMemkb: 512 };
    expect(outcome({ ...pod, passthrough: 'enabled' })).toContain('not supported together with PoD');
    expect(outcome(pod)).toBe('disabled');
  });

  it('the knob lets a PoD guest have a device, as libxl once did', () => {
    expect(outcome({ targetMemkb: 512, podWithPassthrough: 'allow' })).toBe('share_pt');
  });

  it('the first refusal in libxl order is the one that is given', () => {
    expect(outcome({ capHvmDirectio: false, type: 'pvh', targetMemkb: 512 })).toBe(
      'passthrough not supported on this platform',
    );
    expect(outcome({ type: 'pvh', targetMemkb: 512 })).toBe('passthrough not yet supported for x86 PVH guests');
  });
});
