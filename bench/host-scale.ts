// Row 5: creating a 64 GiB HVM guest mapped by 2M. Each run is a fresh process, so that lazily
// committed memory is really untouched; the real boot and the real hypercalls run, in one thread, with the IOMMU off and on.
import { spawnSync } from 'node:child_process';
import { bootHost } from '#model/boot/boot-host';
import { sbdf } from '#model/frames/addresses';
import { createHost, Host, mainCpu } from '#model/host';
import { capableUnit, defaultPolicies, type HostConfig, tablePagesFor } from '#model/host-config';
import type { Answer, Call } from '#model/hypercall/calls';
import { runCall } from '#model/hypercall/dispatch';
import { median, printRow, spreadOf } from './row.ts';

const GIB = 2 ** 18; // frames
const RUNS = 5;

function config(ramFrames: number, iommu: boolean): HostConfig {
  return {
    name: 'scale',
    pcpus: 2,
    dmaThreads: 1,
    maxDomains: 16,
    frames: ramFrames,
    heapRanges: [{ start: 256, end: ramFrames }],
    memoryMap: [{ addr: 0, size: ramFrames * 4096, type: 1 }],
    hap: true,
    ept: { superpage2m: true, superpage1g: false },
    iommuEnabled: iommu,
    units: iommu ? [capableUnit] : [],
    quarantine: 'basic',
    devices: iommu
      ? [
          {
            sbdf: sbdf(0, 2, 0, 0),
            name: 'nic',
            vendor: 1,
            device: 1,
            pciClass: 0x200,
            unit: 0,
            upstreamBridge: null,
            bars: [],
          },
        ]
      : [],
    rmrrs: [],
    tablePages: tablePagesFor(ramFrames),
    policies: { ...defaultPolicies, iommuTables: 'separate' },
  };
}

const quiet = {
  printk: () => {},
  violation: (v: { text: string }) => {
    throw new Error(v.text);
  },
};

interface Part {
  readonly name: string;
  readonly ms: number;
}

function boot(ramFrames: number, iommu: boolean): Host {
  const shared = createHost(config(ramFrames, iommu));
  const h = new Host(shared, mainCpu(shared.config), quiet);
  bootHost(h, { memoryPages: GIB, vcpus: 2 });
  return h;
}

function createGuest(iommu: boolean): Part[] {
  const h = boot(80 * GIB, iommu);
  const caller = { domain: h.dom0, vcpu: 0, preempt: () => false };
  const parts: Part[] = [];
  const run = (call: Call): Answer => {
    let state = null;
    for (;;) {
      const outcome = runCall(h, caller, call, state);
      if (outcome.end === 'done') return outcome.answer;
      if (outcome.end === 'blocked') throw new Error(`${call.op} blocked`);
      state = outcome.state;
    }
  };
  const timed = (name: string, calls: readonly Call[], expected: number): void => {
    const start = performance.now();
    for (const call of calls) {
      const answer = run(call);
      if (answer.rc !== expected) throw new Error(`${call.op}: rc ${answer.rc}, expected ${expected}`);
    }
    parts.push({ name, ms: performance.now() - start });
  };
  timed(
    'createdomain',
    [
      {
        op: 'createdomain',
        domid: 0,
        name: 'big',
        hvm: true,
        hap: true,
        iommu,
        noSharept: iommu,
        vcpus: 4,
        deviceModel: true,
      },
    ],
    0,
  );
  const pages = 64 * GIB;
  timed('max_mem', [{ op: 'max_mem', domid: 1, maxKb: pages * 4 + 1024 }], 0);
  timed('paging pool', [{ op: 'set_paging_mempool_size', domid: 1, bytes: (4 * 256 + 65_536) * 4096 }], 0);
  const populate: Call[] = [];
  // as the builder: 2M extents, four to a call
  for (let g = 0; g < pages; g += 2048) {
    populate.push({ op: 'populate_physmap', domid: 1, order: 9, memFlags: 0, extents: { start: g, count: 4 } });
  }
  timed('populate 64 GiB by 2M', populate, 4);
  return parts;
}

const role = process.argv[2];
if (role === 'guest') {
  process.stdout.write(JSON.stringify(createGuest(process.argv[3] === 'iommu')));
} else {
  const child = <T>(...args: string[]): T => {
    const r = spawnSync(process.execPath, [...process.execArgv, import.meta.filename, ...args], { encoding: 'utf8' });
    if (r.status !== 0) throw new Error(r.stderr);
    return JSON.parse(r.stdout) as T; // printed by the branch above
  };
  for (const iommu of [false, true]) {
    const runs = Array.from({ length: RUNS }, () => child<Part[]>('guest', iommu ? 'iommu' : 'none'));
    const totals = runs.map((parts) => parts.reduce((sum, p) => sum + p.ms, 0) / 1000);
    const names = (runs[0] as Part[]).map((p) => p.name);
    printRow({
      row: 5,
      name: `create a 64 GiB HVM guest (2M pages), IOMMU ${iommu ? 'on, separate tables' : 'off'}`,
      value: median(totals),
      unit: 's',
      hold: iommu ? null : 0.5,
      bound: iommu ? 'reported' : 'at most',
      runs: RUNS,
      spread: spreadOf(totals),
      detail: Object.fromEntries(
        names.map((name, i) => [`${name}_ms`, median(runs.map((parts) => (parts[i] as Part).ms))]),
      ),
    });
  }
}
