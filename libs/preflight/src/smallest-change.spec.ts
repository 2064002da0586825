// The search for the smallest change, against trying every value.
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadHost } from '#formats/host-file';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { guestLayoutOf } from './guest-layout.ts';
import { machineOfHost } from './host-machine.ts';
import { layoutProblems } from './layout-problems.ts';
import { planningView } from './planning-host.ts';
import { smallestChanges } from './smallest-change.ts';

const view = planningView(machineOfHost(loadHost(resolve('hosts/seed-2014-haswell.yaml')))).host;
const small = planningView(machineOfHost(loadHost(resolve('hosts/supermicro-x8dtn-120g.yaml')))).host;

function guest(text: string): GuestConfig {
  const parsed = parseGuestConfig(`name = "g"\ntype = "hvm"\n${text}\n`, 'g.cfg');
  if (!parsed.ok) throw new Error(parsed.errors.map(({ message }) => message).join('\n'));
  return parsed.config;
}

const works = (config: GuestConfig): boolean => layoutProblems(view, config, guestLayoutOf(view, config)).length === 0;
const chosen = (config: GuestConfig, key: string): number =>
  Number(/= (\d+)/.exec(smallestChanges(view, config).find((change) => change.key === key)?.line ?? '')?.[1]);

describe('the smallest change', () => {
  const strict = guest('memory = 4096\nrdm_mem_boundary = 3072\npci = [ "00:02.0" ]');
  const relaxed = guest('memory = 4096\nrdm_mem_boundary = 3072\npci = [ "00:02.0,rdm_policy=relaxed" ]');

  it.each([strict, relaxed])('is the least mmio_hole of all that xl accepts', (config) => {
    const all = Array.from({ length: 3841 - 256 }, (_, i) => 256 + i);
    const least = all.find((mib) => works({ ...config, mmioHoleMemkb: mib * 1024 }));
    expect(chosen(config, 'mmio_hole')).toBe(least);
  });

  it('is the most memory, down from what the guest wanted', () => {
    const least = Array.from({ length: 4096 }, (_, i) => 4095 - i).find((mib) =>
      works({ ...strict, maxMemkb: mib * 1024, targetMemkb: mib * 1024 }),
    );
    expect(chosen(strict, 'memory')).toBe(least);
  });

  it('is the highest boundary that keeps RAM below the region', () => {
    const highest = Array.from({ length: 3072 }, (_, i) => 3071 - i).find((mib) =>
      works({ ...strict, rdmMemBoundaryMemkb: mib * 1024 }),
    );
    expect(chosen(strict, 'rdm_mem_boundary')).toBe(highest);
  });

  it('is nothing where nothing is wrong', () => {
    expect(smallestChanges(view, guest('memory = 4096\npci = [ "00:02.0" ]'))).toEqual([]);
  });

  it('of a guest below its maximum is to have what it may have, or may have what it has', () => {
    const changes = smallestChanges(view, guest('memory = 1024\nmaxmem = 2048\npci = [ "00:02.0" ]'));
    expect(changes.map(({ line }) => line)).toEqual(['maxmem = 1024', 'memory = 2048']);
  });

  it('is the relaxed policy where a region lies below 1 MiB, off which no RAM can be moved', () => {
    const changes = smallestChanges(small, guest('memory = 1024\npci = [ "00:1a.0" ]'));
    expect(changes.map(({ line }) => line)).toEqual(["pci = [ '00:1a.0,rdm_policy=relaxed' ]"]);
  });
});
