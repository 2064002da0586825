// Named event counters of the host, summed over all threads. Declared once here; read by reports and assertions.

export const counterNames = [
  'p2m.set',
  'p2m.split',
  'p2m.ptAlloc',
  'p2m.ptFree',
  'p2m.misconfig',
  'p2m.dirtyFault',
  'pod.populate4k',
  'pod.populate2m',
  'pod.split',
  'pod.steal',
  'pod.breakChunk',
  'pod.reclaimSuper',
  'pod.reclaimSingle',
  'pod.sweepPages',
  'pod.outOfMemory',
  'cpu.flushDeferred',
  'cpu.flush',
  'cpu.tlbHit',
  'cpu.tlbMiss',
  'cpu.walk',
  'cpu.eptViolation',
  'iommu.map',
  'iommu.unmap',
  'iommu.ptAlloc',
  'iommu.ptFree',
  'iommu.ptShatters',
  'iommu.ptCoalesces',
  'iommu.flushPage',
  'iommu.flushDomain',
  'iommu.flushSkipped',
  'iommu.flushWait',
  'iommu.flushWriteBuffer',
  'iommu.flushDeviceTlb',
  'iotlb.hit',
  'iotlb.miss',
  'deviceTlb.hit',
  'iommu.walkSteps',
  'dma.transactions',
  'dma.faults',
  'dma.unlogged',
  'dma.busMasterOff',
  'heap.alloc',
  'heap.free',
  'domain.crash',
  'hypercall.done',
  'hypercall.continued',
  'foreign.mapped',
  'foreign.unmapped',
  'grant.map',
  'grant.unmap',
  'grant.copy',
  'grant.flush',
  'lend.lent',
  'lend.revoked',
  'lend.flush',
  'lend.fault',
  'lend.injected',
  'pvIommu.map',
  'pvIommu.unmap',
  'pvIommu.flush',
  'gpu.ioreq',
  'gpu.compare',
  'gpu.shadowWrite',
  'gpu.tlbFlush',
  'gpu.tlbHit',
  'gpu.walk',
  'gpu.access',
  'gpu.fault',
] as const;

export type CounterName = (typeof counterNames)[number];

const indexOf = new Map<string, number>(counterNames.map((name, index) => [name, index]));

/** Index of a counter, resolved once at module load by the code that counts. */
export function counter(name: CounterName): number {
  return indexOf.get(name) as number; // every CounterName is in the list it was made from
}

export class Counters {
  static bytes(cpus: number): number {
    return (cpus + 1) * Counters.stride * 8;
  }
  /** A CPU's counters fill whole cache lines of their own. */
  private static readonly stride = Math.ceil(counterNames.length / 8) * 8;
  private readonly all: Float64Array<SharedArrayBuffer>;
  private readonly own: Float64Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, cpu: number) {
    this.all = new Float64Array(buffer);
    this.own = this.all.subarray(cpu * Counters.stride, (cpu + 1) * Counters.stride);
  }

  /** Only ever written by the CPU it belongs to, so a plain addition is exact. */
  add(index: number, amount = 1): void {
    this.own[index] = (this.own[index] as number) + amount;
  }

  /** What this CPU alone has counted. */
  readOwn(index: number): number {
    return this.own[index] as number;
  }

  read(name: CounterName): number {
    const index = counter(name);
    let sum = 0;
    for (let i = index; i < this.all.length; i += Counters.stride) sum += this.all[i] as number;
    return sum;
  }

  snapshot(): Record<CounterName, number> {
    return Object.fromEntries(counterNames.map((name) => [name, this.read(name)])) as Record<CounterName, number>; // all names
  }
}
