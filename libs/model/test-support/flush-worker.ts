// A pCPU of the invalidation queue's spec: warms the IOTLB and invalidates its own pages, over and over, and counts how
// often an entry was still there once its invalidation had returned.
import { workerData } from 'node:worker_threads';
import { Host, type HostShared } from '#model/host';
import { bank } from '#model/iommu/translation-cache';
import { invalidateDomain } from '#model/iommu/vtd/invalidation';

const { shared, cpu, rounds, counts } = workerData as {
  shared: HostShared;
  cpu: number;
  rounds: number;
  counts: SharedArrayBuffer;
}; // written by the spec
const h = new Host(shared, cpu, { printk: () => {}, violation: () => {} });
const words = new Int32Array(counts);
const [unit] = h.iommu.units;
if (!unit) throw new Error('the host has a unit');
const did = cpu + 10;
for (let i = 0; i < rounds; i++) {
  unit.cache.fill(bank.leaf4k, did, i % 64, 65536, 0, unit.cache.sequence);
  invalidateDomain(h, unit, did);
  if (unit.cache.lookup(bank.leaf4k, did, i % 64) >= 0) Atomics.add(words, 1, 1);
  Atomics.add(words, 0, 1);
}
