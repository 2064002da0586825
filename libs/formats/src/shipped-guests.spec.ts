// The shipped scenarios' guests, read by the toolstack's own parser and planned by its own arithmetic: what the scenarios
// expect of a guest's memory map is what follows from their xl.cfg files on their hosts.
import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { seabiosE820 } from '#model/firmware/seabios-e820';
import { type Sbdf, sbdf } from '#model/frames/addresses';
import { applyLibxlDefaults, type BuildInfo, type HostCaps } from '#model/toolstack/build-info';
import { planLayout } from '#model/toolstack/build-layout';
import { constructRdm, type RdmPlan } from '#model/toolstack/construct-rdm';
import { parseGuestConfig } from '#model/toolstack/guest-config';
import { constructMemmap } from '#model/toolstack/memory-map';
import { xlConfigText } from './guest-text.ts';
import type { ScenarioGuest, Twin } from './scenario.ts';
import { loadScenario } from './scenario-file.ts';

const root = process.cwd();
const twinsOf = (name: string): readonly Twin[] =>
  loadScenario(resolve(root, `scenarios/${name}.yaml`), { root }).twins;

function caps(twin: Twin): HostCaps {
  const { ept, iommuUnits, hap, pcpus } = twin.host;
  const share = iommuUnits.every((u) => ept.superpages.every((size) => u.caps.superpages.includes(size)));
  return { hap, shadow: true, hvmDirectio: true, iommuHapPtShare: share, nodes: 1, onlineCpus: pcpus };
}

function build(twin: Twin, guest: ScenarioGuest): BuildInfo {
  const parsed = parseGuestConfig(xlConfigText(guest), guest.config.file);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.errors));
  const planned = applyLibxlDefaults(parsed.config, caps(twin));
  if (!planned.ok) throw new Error(planned.message);
  return planned.build;
}

function rdmPlan(twin: Twin, info: BuildInfo): RdmPlan {
  const layout = planLayout({
    type: 'hvm',
    maxMemkb: info.maxMemkb,
    targetMemkb: info.targetMemkb,
    videoMemkb: info.videoMemkb,
    mmioHoleMemkb: info.config.mmioHoleMemkb ?? 0,
  });
  const regionsOf = (device: Sbdf | null) =>
    twin.host.rmrrs
      .filter((r) => device === null || r.devices.includes(device))
      .map((r) => ({ startPfn: r.start / 4096, nrPages: (r.end + 1 - r.start) / 4096 }));
  const pcidevs = info.config.pci.map((p) => ({
    device: sbdf(p.domain, p.bus, p.dev, p.func),
    rdmPolicy: p.rdmPolicy,
  }));
  return constructRdm(
    {
      lowmemEnd: layout.lowmemEnd,
      highmemEnd: layout.highmemEnd,
      hap: info.hap,
      strategy: info.rdm.strategy,
      policy: info.rdm.policy,
      boundaryMemkb: info.rdmMemBoundaryMemkb,
      pcidevs,
    },
    { all: () => regionsOf(null), forDevice: regionsOf },
  );
}

const names = readdirSync('scenarios')
  .filter((f) => f.endsWith('.yaml'))
  .map((f) => f.replace('.yaml', ''));

it('every guest of every twin is a configuration that libxl accepts, and fits its host', () => {
  for (const twin of names.flatMap(twinsOf)) {
    const needMb = twin.guests.map((g) => build(twin, g).needMemkb / 1024).reduce((a, b) => a + b, 0);
    const ramMb =
      twin.host.memoryMap.reduce((sum, r) => (r.type === 'usable' ? sum + r.end + 1 - r.start : sum), 0) / 2 ** 20;
    expect(needMb + twin.dom0.memoryMb + twin.host.xenReservedMb).toBeLessThan(ramMb);
  }
});

it('the GPU guest of pod-gpu-dma has RAM at the faulting gfn and a hole above 2 GiB', () => {
  for (const twin of twinsOf('pod-gpu-dma').filter((t) => t.kind === 'buggy')) {
    const guest = twin.guests.find((g) => g.name === 'win7-gpu');
    if (!guest) throw new Error('no win7-gpu');
    const plan = rdmPlan(twin, build(twin, guest));
    expect(plan).toMatchObject({ ok: true, lowmemEnd: 0x80000000 });
    expect(0x7d0d6000).toBeLessThan(plan.lowmemEnd);
  }
});

it('rmrr-hole: RAM over the region, refused, pushed below it, or with a hole, with the maps the scenario expects', () => {
  for (const twin of twinsOf('rmrr-hole')) {
    const [guest] = twin.guests;
    if (!guest) throw new Error('no guest');
    const plan = rdmPlan(twin, build(twin, guest));
    expect(plan.ok).toBe(twin.name !== 'strict-refuses');
    if (twin.kind === 'buggy') expect(plan.warnings).toEqual(['Ignoring RDM conflict at 0xad000000.']);
    const wanted = twin.expect.find((a) => a.check === 'e820');
    if (wanted?.check !== 'e820') continue;
    const map = constructMemmap({ ...plan, type: 'hvm', acpiModules: [] });
    if (!map.ok) throw new Error(map.message);
    const types = { 1: 'usable', 2: 'reserved' } as Record<number, string>;
    // hvmloader hands this part on as it is; SeaBIOS takes the last page of low RAM.
    const seen = seabiosE820(map.memmap).filter(({ addr }) => addr >= 2 ** 20);
    const rows = seen.map((e) => ({ start: e.addr, end: e.addr + e.size - 1, type: types[e.type] }));
    expect(wanted.rows.filter((r) => r.type !== 'hole')).toEqual(rows);
  }
});
