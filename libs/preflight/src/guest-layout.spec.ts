// The plan of a guest against the guest: each configuration is also built by the running toolstack on a whole host in one thread.
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hostConfig } from '#formats/host-config';
import { loadHost } from '#formats/host-file';
import { resolvePolicies } from '#formats/policies';
import { InProcessHost } from '#model/boot/in-process-host';
import type { Sbdf } from '#model/frames/addresses';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import { createDomain } from '#model/toolstack/domain-builder';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { makeAssignable } from '#model/toolstack/pci-assignment';
import { pciSbdf } from '#model/toolstack/pci-spec';
import type { OpResult, ToolstackPorts } from '#model/toolstack/ports';
import { MapXenstore } from '#model/toolstack/xenstore-map';
import { guestLayoutOf } from './guest-layout.ts';
import { machineOfHost } from './host-machine.ts';
import { layoutProblems } from './layout-problems.ts';
import { planningView } from './planning-host.ts';
import { PAGE } from './ranges.ts';

const hosts = ['seed-2014-haswell', 'seed-2015-broadwell'].map((name) => loadHost(resolve(`hosts/${name}.yaml`)));
const IGD = '00:02.0';

function guest(text: string): GuestConfig {
  const parsed = parseGuestConfig(`name = "g"\ntype = "hvm"\n${text}\n`, 'g.cfg');
  if (!parsed.ok) throw new Error(parsed.errors.map(({ message }) => message).join('\n'));
  return parsed.config;
}

const memory = ['memory = 512', 'memory = 2760', 'memory = 2776', 'memory = 4096', 'memory = 1024; maxmem = 2048'];
const layouts = ['', 'mmio_hole = 1024', 'mmio_hole = 1328', 'mmio_hole = 2048', 'rdm_mem_boundary = 3072'];
const devices = [
  '',
  `pci = [ "${IGD}" ]`,
  `pci = [ "${IGD},rdm_policy=relaxed" ]`,
  'pci = [ "00:14.0", "01:00.0" ]',
  'pci = [ "03:00.0,rdm_policy=strict" ]; rdm = "strategy=host"',
];
const others = [
  '',
  'vga = "none"; bios = "ovmf"',
  'hap = 0',
  'vga = "stdvga"; videoram = 64; xen_platform_pci_bar_uc = 0',
];

/** Every value of every list, each with the first of the others, and the pairs that matter most. */
const configs = [
  ...memory.flatMap((m) => layouts.flatMap((l) => devices.map((d) => [m, l, d]))),
  ...others.flatMap((o) => devices.map((d) => ['memory = 4096', o, d])),
].map((parts) => parts.filter((part) => part !== '').join('; '));

/** HOSTLOOM_PLANS=all builds every one of them, which takes minutes. */
const SHARE = process.env.HOSTLOOM_PLANS === 'all' ? 1 : 12;

/** Builds the guest on a fresh host and answers what xl create would. */
function build(
  host: (typeof hosts)[number],
  config: GuestConfig,
): OpResult<{ readonly domain: BuiltDomain }> & { p2mHas(gfn: number): boolean } {
  const machine = hostConfig(host, resolvePolicies({}));
  const inProcess = new InProcessHost(
    machine,
    { memoryPages: 64 * 256, vcpus: 2 },
    {
      printk: () => {},
      violation: ({ invariant }) => {
        throw new Error(invariant);
      },
    },
  );
  const view = planningView(machineOfHost(host)).host;
  const ports: ToolstackPorts = {
    port: inProcess.port(0),
    xenstore: new MapXenstore(),
    devices: machine.devices,
    caps: view.caps,
    physBits: view.physBits,
    memoryMap: machine.memoryMap,
  };
  for (const pci of config.pci) makeAssignable(ports, pciSbdf(pci));
  const operation = createDomain(ports, config);
  let step = operation.next();
  while (!step.done) step = operation.next({ ok: true });
  const result = step.value;
  const windows = result.ok ? result.domain.devices.flatMap((device) => device.windows) : [];
  return { ...result, p2mHas: (gfn) => windows.some((window) => window.gfn === gfn) };
}

/** Fails unless the plan says what building the guest shows. */
function compare(host: (typeof hosts)[number], text: string): void {
  const view = planningView(machineOfHost(host));
  const config = guest(text);
  const plan = guestLayoutOf(view.host, config);
  const built = build(host, config);
  const stopped = layoutProblems(view.host, config, plan).filter(
    ({ tolerated, code }) => !tolerated && code !== 'BAR-NO-SPACE',
  );
  if (!built.ok) {
    const said = built.log.map((line) => line.text).join('\n');
    // Refused by libxl in the plan's words, or by Xen when a device comes.
    if (plan.refusal) {
      expect(said).toContain(plan.refusal.message);
      return;
    }
    expect([stopped.length > 0, said]).toEqual([
      true,
      expect.stringMatching(/xc_(assign_device|domain_memory_mapping) failed/),
    ]);
    return;
  }
  expect(stopped).toEqual([]);
  expect(plan.e820).toEqual(built.domain.e820);
  const placed = plan.bars.filter(
    ({ sbdf, address, isIo, index }) => sbdf !== null && address !== null && !isIo && index !== 'rom',
  );
  for (const { address } of placed) expect(built.p2mHas(Math.floor((address ?? 0) / PAGE))).toBe(true);
}

describe.each(hosts)('the plan on $name is what the toolstack builds', (host) => {
  const chosen = configs.filter((_, i) => i % SHARE === hosts.indexOf(host) % SHARE);
  it.each(chosen)('%s', (text) => compare(host, text));
});

describe('the plan where firmware puts a BAR over a region that was hidden from it is what the toolstack builds', () => {
  const [host] = hosts;
  if (!host) throw new Error('no host');
  /** 64 MiB that begin inside low RAM and end above it, as some servers have them. */
  const rmrrs = [{ start: 0x7ff00000, end: 0x83efffff, devices: [0x300 as Sbdf] }]; // 03:00.0
  const memoryMap = host.memoryMap.flatMap((r) =>
    r.start <= 0x7ff00000 && r.end >= 0x83efffff
      ? [
          { ...r, end: 0x7fefffff },
          { start: 0x7ff00000, end: 0x83efffff, type: 'reserved' as const },
          { ...r, start: 0x83f00000 },
        ]
      : [r],
  );
  const odd = { ...host, rmrrs, memoryMap };
  it.each([2048, 2049, 2050])('with mmio_hole = %i', (hole) => {
    compare(odd, `memory = 4096; mmio_hole = ${hole}; pci = [ "03:00.0,rdm_policy=relaxed" ]`);
  });
});

describe('the plan on a server whose reserved regions eight devices share is what the toolstack builds', () => {
  const server = loadHost(resolve('hosts/supermicro-x8dtn-120g.yaml'));
  /** The same without the region below 1 MiB, which libxl refuses before Xen is asked. */
  const high = { ...server, rmrrs: server.rmrrs.slice(1) };
  it.each([
    'memory = 512; pci = [ "00:1a.0" ]',
    'memory = 512; pci = [ "00:1a.0,rdm_policy=relaxed" ]',
    'memory = 4096; pci = [ "00:1a.0,rdm_policy=relaxed", "00:1d.0,rdm_policy=relaxed" ]',
    'memory = 4096; pci = [ "08:00.0", "06:00.0" ]',
    // BARs of 1 KiB: in the guest each has a page of its own.
    'memory = 512; pci = [ "00:1a.7,rdm_policy=relaxed", "00:1d.7,rdm_policy=relaxed" ]',
  ])('%s', (text) => {
    compare(server, text);
    compare(high, text);
  });
});
