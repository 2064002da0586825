import { describe, expect, it } from 'vitest';
import { type GuestConfig, parseGuestConfig } from './guest-config.ts';

function config(text: string): GuestConfig {
  const result = parseGuestConfig(text, 'g.cfg');
  if (!result.ok) throw new Error(JSON.stringify(result.errors));
  return result.config;
}

function errors(text: string): { line?: number; message: string }[] {
  const result = parseGuestConfig(text, 'g.cfg');
  return result.ok ? [] : result.errors.map(({ remedy: _, ...rest }) => rest);
}

const HVM = 'name="g"\ntype="hvm"\n';

describe('xl.cfg to guest configuration', () => {
  it('a small HVM guest gets the defaults of xl', () => {
    expect(config(`${HVM}memory=2048\nvcpus=2\n`)).toMatchObject({
      name: 'g',
      type: 'hvm',
      targetMemkb: 2097152,
      maxMemkb: 2097152,
      vcpus: 2,
      maxVcpus: 2,
      passthrough: 'default',
      rdm: { strategy: 'ignore', policy: 'invalid' },
      onReboot: 'restart',
      onCrash: 'destroy',
      xenPlatformPciBarUc: true,
    });
  });

  it('devices inherit the global flags and the rdm policy', () => {
    const text = `${HVM}pci_permissive=1\nrdm="strategy=host,policy=strict"\npci=["01:00.0","01:00.1,permissive=0,rdm_policy=relaxed"]\n`;
    const c = config(text);
    expect(c.pci.map((p) => [p.func, p.permissive, p.rdmPolicy])).toEqual([
      [0, true, 'strict'],
      [1, false, 'relaxed'],
    ]);
    expect(c.rdm).toEqual({ strategy: 'host', policy: 'strict' });
  });

  it('a prefix of a type is that type, and builder= must agree with it', () => {
    expect(config('name="g"\ntype="h"\n').type).toBe('hvm');
    expect(config('name="g"\nbuilder="hvm"\n').type).toBe('hvm');
    expect(errors('name="g"\ntype="pvh"\nbuilder="hvm"\nkernel="k"\n')).toContainEqual({
      line: 3,
      message: 'Contradicting "builder" and "type" options specified.',
    });
  });

  it('a PV guest with a device sees the host map', () => {
    expect(config('name="g"\nkernel="k"\npci=["01:00.0"]\n').e820Host).toBe(true);
    expect(config('name="g"\nkernel="k"\n').e820Host).toBe(false);
  });

  it('the MMIO hole must be 256 to 3840 MiB', () => {
    expect(config(`${HVM}mmio_hole=2048\n`).mmioHoleMemkb).toBe(2097152);
    expect(errors(`${HVM}mmio_hole=255\n`)).toEqual([{ line: 3, message: 'ERROR: invalid value 255 for "mmio_hole"' }]);
  });

  it('every refusal carries its line and the words of xl', () => {
    const text = `type="hvm"\nvga="voodoo"\non_crash="panic"\npci=["zz"]\ndevice_model_version="qemu-xen-traditional"\npassthrough="maybe"\n`;
    expect(errors(text)).toEqual([
      { message: 'Domain name must be specified.' },
      { line: 3, message: 'Unknown on_crash action "panic" specified' },
      { line: 4, message: "unable to parse PCI_SPEC_STRING `zz' for passthrough" },
      { line: 6, message: "ERROR: unknown passthrough option 'maybe'" },
      { line: 5, message: 'Unknown device_model_version "qemu-xen-traditional" specified' },
      { line: 2, message: 'Unknown vga "voodoo" specified' },
    ]);
  });

  it('a file that does not parse gives the line of the parser and its last word', () => {
    expect(errors('name="g"\nmemory=-1\n')[0]).toEqual({
      line: 2,
      message: "g.cfg:2: config parsing error near `-1': lexical error",
    });
    expect(errors('a b\n').at(-1)).toEqual({ message: 'Failed to parse config: Invalid argument' });
  });

  it('an rdm string without effect is warned of, where xl is silent', () => {
    const result = parseGuestConfig(`${HVM}rdm="strategy=host, policy=relaxed"\n`, 'g.cfg');
    expect(result.ok && result.config.rdm.strategy).toBe('ignore');
    expect(result.warnings[0]).toContain('g.cfg:3: warning: rdm=');
  });

  it('vNUMA nodes set maxmem and maxvcpus, or must agree with them', () => {
    const vnuma =
      'vnuma=[["pnode=0","size=512","vcpus=0-1","vdistances=10,20"],["pnode=1","size=512","vcpus=2","vdistances=20,10"]]\n';
    expect(config(`${HVM}memory=1024\n${vnuma}`)).toMatchObject({
      maxMemkb: 1048576,
      maxVcpus: 3,
      vcpusFromVnuma: true,
    });
    expect(errors(`${HVM}maxmem=512\n${vnuma}`)).toEqual([
      { line: 4, message: 'xl: maxmem and vnuma memory size mismatch' },
    ]);
  });
});
