import { describe, expect, it } from 'vitest';
import { needMemkb, requiredIommuMemkb, requiredPagingMemkb, targetFudgeKb } from './memory-maths.ts';

describe("libxl's memory arithmetic", () => {
  it('a HAP guest needs 1 MiB a vCPU and 4 KiB per MiB, a shadow guest 8', () => {
    expect(requiredPagingMemkb(2097152, 2, 'hvm', true)).toBe(2048 + 8192);
    expect(requiredPagingMemkb(2097152, 2, 'hvm', false)).toBe(2048 + 16384);
  });

  it('IOMMU tables are four levels of 512', () => {
    expect(requiredIommuMemkb(2097152)).toBe(4 * (1024 + 2 + 1 + 1));
  });

  it('the need is rounded up to 2 MiB', () => {
    const none = { shadowMemkb: 0, iommuMemkb: 0, videoMemkb: 0, stubdomain: false, stubdomainMemkb: 0 };
    expect(needMemkb({ type: 'pv', targetMemkb: 1025, ...none })).toBe(4096);
  });

  it('a PoD guest has 1 MiB more fudge', () => {
    expect(targetFudgeKb({ type: 'hvm', maxMemkb: 2048, targetMemkb: 1024, videoMemkb: 8 })).toBe(8 + 1024);
    expect(targetFudgeKb({ type: 'hvm', maxMemkb: 1024, targetMemkb: 1024, videoMemkb: 8 })).toBe(8);
  });
});
