import { describe, expect, it } from 'vitest';
import {
  applyLibxlDefaults,
  type BuildInfo,
  type BuildOptions,
  defaultBuildOptions,
  type HostCaps,
} from './build-info.ts';
import { parseGuestConfig } from './guest-config.ts';
import { libxlAt } from './libxl-log.ts';

const caps: HostCaps = { hap: true, shadow: true, hvmDirectio: true, iommuHapPtShare: true, nodes: 1, onlineCpus: 8 };

function apply(text: string, host: Partial<HostCaps> = {}, options: Partial<BuildOptions> = {}) {
  const parsed = parseGuestConfig(`name="g"\n${text}`, 'g.cfg');
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.errors));
  return applyLibxlDefaults(parsed.config, { ...caps, ...host }, { ...defaultBuildOptions, ...options });
}

function build(text: string, host: Partial<HostCaps> = {}, options: Partial<BuildOptions> = {}): BuildInfo {
  const result = apply(text, host, options);
  if (!result.ok) throw new Error(result.message);
  return result.build;
}

describe("libxl's defaults and refusals", () => {
  it('computes pools, need and xenstore nodes of an HVM guest with a device', () => {
    expect(build('type="hvm"\nmemory=4096\nvcpus=2\npci=["01:00.0"]\n', { iommuHapPtShare: false })).toMatchObject({
      passthrough: 'sync_pt',
      videoMemkb: 8192,
      shadowMemkb: 4 * (512 + 4096),
      iommuMemkb: 4 * (2048 + 4 + 1 + 1),
      needMemkb: 4225024,
      maxmemLimitKb: 4194304 + 1024,
      xenstore: { target: 4194304 - 8192, staticMax: 4194304, videoram: 8192 },
      rdm: { strategy: 'ignore', policy: 'relaxed' },
      rdmMemBoundaryMemkb: 2097152,
    });
  });

  it('refuses a device together with populate-on-demand, unless the knob says otherwise', () => {
    const text = 'type="hvm"\nmemory=394\nmaxmem=579\npci=["01:00.0"]\n';
    expect(apply(text)).toEqual({
      ok: false,
      rc: -6,
      message: 'IOMMU required for device passthrough but not supported together with PoD',
      at: libxlAt.podWithPassthrough,
    });
    expect(build(text, {}, { podWithPassthrough: 'allow' })).toMatchObject({
      podEnabled: true,
      passthrough: 'share_pt',
    });
  });

  it('refuses too little video memory for the adapter', () => {
    expect(apply('type="hvm"\nmemory=512\nvga="stdvga"\nvideoram=8\n')).toMatchObject({
      ok: false,
      message: 'videoram must be at least 16 MB for STDVGA on QEMU_XEN',
    });
    expect(build('type="hvm"\nmemory=512\nvga="none"\n').videoMemkb).toBe(0);
  });

  it('falls back to shadow paging, and refuses where there is neither', () => {
    expect(build('type="hvm"\nmemory=512\n', { hap: false })).toMatchObject({
      hap: false,
      shadowMemkb: 4 * (256 + 1024),
    });
    expect(apply('type="hvm"\nmemory=512\n', { hap: false, shadow: false })).toMatchObject({
      message: 'neither hap nor shadow paging available',
    });
  });

  it('checks virtual NUMA nodes against the host', () => {
    const text = 'type="hvm"\nmemory=512\nvnuma=[["pnode=1","size=512","vcpus=0","vdistances=10"]]\n';
    expect(apply(text)).toMatchObject({ message: 'xl: invalid pnode number: 1' });
    expect(apply(text, { nodes: 2 })).toMatchObject({ ok: true });
  });

  it('a guest no larger than its video memory is refused', () => {
    expect(apply('type="hvm"\nmemory=8\n').ok).toBe(false);
  });
});
