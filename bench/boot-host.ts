// Boots a 1 TiB host in a hypervisor process of its own: how long the model's boot takes, how long until calls are taken, and how
// much memory the process uses then (row 6 of the promise table).
import { readFileSync } from 'node:fs';
import { bootHost } from '#model/boot/boot-host';
import { createHost, Host, mainCpu } from '#model/host';
import { tablePagesFor } from '#model/host-config';
import { smallConfig } from '../libs/model/test-support/p2m-fixture.ts';
import { HypervisorProcess } from '../test/support/hypervisor-process.ts';
import { median, printRow, spreadOf } from './row.ts';

const FRAMES = 2 ** 28;
const DOM0_MIB = 4096;
const RUNS = 3;

const config = smallConfig({
  pcpus: 4,
  frames: FRAMES,
  memoryMap: [
    { addr: 0, size: 2 ** 31, type: 1 },
    { addr: 2 ** 32, size: 2 ** 40 - 2 ** 32, type: 1 },
  ],
  heapRanges: [
    { start: 0x100, end: 2 ** 19 },
    { start: 2 ** 20, end: FRAMES },
  ],
  tablePages: tablePagesFor(FRAMES),
});

function modelBootMs(): number {
  const start = performance.now();
  const host = new Host(createHost(config), mainCpu(config), { printk: () => {}, violation: () => {} });
  bootHost(host, { memoryPages: DOM0_MIB * 256, vcpus: 4 });
  return performance.now() - start;
}

function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}

const upS: number[] = [];
const rssMiB: number[] = [];
for (let run = 0; run < RUNS; run++) {
  const hypervisor = await HypervisorProcess.start({ config, dom0: { memoryMb: DOM0_MIB, vcpus: 4 } });
  upS.push(hypervisor.upMs / 1000);
  rssMiB.push(residentMiB(hypervisor.child.pid as number)); // it is up
  await hypervisor.stop();
}
// Last: a process that holds a terabyte's tables cannot start another one.
const bootMs = Array.from({ length: RUNS }, modelBootMs);
const common = { row: 6, bound: 'at most', runs: RUNS } as const;
printRow({
  ...common,
  name: 'boot a 1 TiB host, from process start until it takes calls',
  value: median(upS),
  unit: 's',
  hold: 2,
  spread: spreadOf(upS),
  detail: { modelBoot_ms: median(bootMs) },
});
printRow({
  ...common,
  name: 'boot a 1 TiB host: resident memory of the hypervisor process',
  value: median(rssMiB),
  unit: 'MiB',
  hold: 400,
  spread: spreadOf(rssMiB),
  detail: {},
});
process.exit(0);
