// One task of a kernel in the mm specs: plays its role until it is told to stop, or once for `munmap`.
import { workerData } from 'node:worker_threads';
import { cpuAccess } from '#model/guest/mm/faults';
import { GpuEngine } from '#model/guest/mm/gpu-engine';
import { migratePage } from '#model/guest/mm/migration';
import { swapOut, writeBack } from '#model/guest/mm/reclaim';
import { mmapPages, munmap, oomReap, truncate } from '#model/guest/mm/unmap';
import { HostPanic } from '#model/shared-memory/panic';
import { installSeam } from '#model/shared-memory/step';
import { attach, counting, type MmWork, mmWord } from './mm-fixture.ts';

const work = workerData as MmWork; // written by the fixture
const { kernel, task, role, first, count } = work;
installSeam({ nowNs: () => Number(process.hrtime.bigint()) });
const words = new Int32Array(kernel.control);
const { mm, userptr, kvm } = attach(kernel, task, counting(kernel.control));
let random = work.seed;
const below = (n: number): number => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % n;
};

function churn(): void {
  const page = first + below(count);
  const what = below(8);
  if (what < 3) migratePage(mm, page, 'ram');
  else if (what < 5) migratePage(mm, page, 'vram');
  else if (what === 5) swapOut(mm, page);
  else if (what === 6) cpuAccess(mm, page, 1);
  else if (below(8) === 0) {
    munmap(mm, first);
    mmapPages(mm, { kind: 'ram', start: first, end: first + count, writable: true });
  }
}

function fileChurn(): void {
  const what = below(8);
  if (what < 3) writeBack(mm, first, first + count);
  else if (what < 5) swapOut(mm, first + below(count));
  else if (what < 7) cpuAccess(mm, first + below(count), 1);
  else {
    truncate(mm, first, first + below(count));
    truncate(mm, first, first + count);
  }
}

let engine: GpuEngine | null = null;
function runEngine(): void {
  engine ??= userptr && new GpuEngine(mm, userptr);
  if (engine?.runJob() !== true) Atomics.wait(words, mmWord.idle, 0, 1);
}

function submit(): void {
  const fence = userptr?.submit(0, true, below(2 ** 20)) ?? 0;
  if (fence > 0) mm.fences.wait(fence);
  else refused();
}

/** While the memory is unmapped; whoever maps it again is given time. */
function refused(): void {
  Atomics.add(words, mmWord.errors, 1);
  Atomics.wait(words, mmWord.idle, 0, 1);
}

function vcpu(): void {
  const write = below(2) === 0;
  if (kvm && kvm.access(task % kvm.vcpus, kvm.firstGfn + below(count), write, below(2 ** 20)) !== 0) {
    refused();
  }
}

const roles = {
  churn,
  'file-churn': fileChurn,
  reap: () => void oomReap(mm),
  submit,
  engine: runEngine,
  vcpu,
  munmap: () => void munmap(mm, first),
};

const last = role === 'engine' ? 2 : 1;

Atomics.add(words, mmWord.ready, 1);
Atomics.notify(words, mmWord.ready);
try {
  do {
    roles[role]();
    if (role !== 'engine' && role !== 'vcpu') Atomics.add(words, mmWord.rounds, 1);
  } while (role !== 'munmap' && Atomics.load(words, mmWord.stop) < last);
} catch (error) {
  if (!(error instanceof HostPanic)) throw error;
}
