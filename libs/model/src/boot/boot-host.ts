// A host comes up: RAM to the heap, the IOMMU's devices to dom0, dom0 itself. Runs once, on the main thread, before any other
// thread touches the model. A host that cannot boot panics, as Xen does.
//
// dom0 is PVH-like: translated, HAP, always behind the IOMMU where there is one (strict: only its own frames, dfn = gfn). Policy
// mediated: A makes it a PV dom0 that is not strict, as XenGT was built on: all of RAM is mapped for its devices, 1:1.
import { createDomain, finishCreation } from '../domain/create.ts';
import type { Domain } from '../domain/domain.ts';
import { unpauseDomain } from '../domain/pause.ts';
import { MAX_GFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { bootAssignAll } from '../iommu/hotplug.ts';
import { mapOneToOne } from '../iommu/one-to-one.ts';
import { INITIAL_POOL_PAGES, setPagingPool } from '../p2m/paging-pool.ts';
import { printDmar, printHap, printIommu, printLowMemory, printMemoryMap } from './boot-console.ts';
import { dom0Ram, populateDom0, setDom0MemoryMap } from './dom0-memory.ts';
import { writeFirmwareMemory } from './firmware-memory.ts';

export interface Dom0Spec {
  readonly memoryPages: number;
  readonly vcpus: number;
}

const PAGES_PER_MIB = 256;
/** Pages of p2m tables per vCPU and per MiB that a HAP domain's pool holds (as libxl's formula). */
const POOL_PAGES_PER_VCPU = 256;
/** dom0 has no limit of its own (Xen's default without dom0_mem=max:). */
const NO_LIMIT = 2 ** 32 - 1;

export function bootHost(h: Host, dom0: Dom0Spec): void {
  printMemoryMap(h);
  printDmar(h);
  for (const { start, end } of h.config.heapRanges) h.heap.addRange(start, end);
  writeFirmwareMemory(h);
  printHap(h);
  const d = createDom0(h, dom0);
  printIommu(h, d.has('hapPtShare'));
  buildDom0(h, d, dom0);
  if (h.config.iommuEnabled) bootAssignAll(h);
  finishCreation(h, d);
  unpauseDomain(d);
  printLowMemory(h);
}

function createDom0(h: Host, { vcpus }: Dom0Spec): Domain {
  const pv = h.config.policies.mediated === 'A';
  h.platform.printk(`Dom0 has maximum ${vcpus} VCPUs`);
  const d = createDomain(
    h,
    {
      domid: 0,
      name: 'Domain-0',
      hvm: !pv,
      hap: !pv && h.config.hap,
      iommu: h.config.iommuEnabled,
      noSharept: false,
      deviceModel: false,
      vcpus,
    },
    true,
  );
  if (typeof d === 'number') h.panic(`Error creating domain 0: ${d}`);
  return d;
}

function buildDom0(h: Host, d: Domain, { memoryPages, vcpus }: Dom0Spec): void {
  d.r.maxPages = NO_LIMIT;
  d.r.iomem.set([0, MAX_GFN]);
  d.r.iomemCount = 1;
  const pool = Math.max(INITIAL_POOL_PAGES, POOL_PAGES_PER_VCPU * vcpus + Math.ceil(memoryPages / PAGES_PER_MIB));
  for (let left = d.isTranslated ? setPagingPool(h, d, pool) : 0; left !== 0; left = setPagingPool(h, d, pool)) {
    if (left < 0) h.panic(`dom0: no memory for ${pool} pages of p2m tables`);
  }
  const ram = dom0Ram(h, memoryPages);
  setDom0MemoryMap(h, d, ram);
  populateDom0(h, d, ram);
  if (!d.isTranslated && mapOneToOne(h, d) !== 0) h.panic('dom0: no memory for I/O tables over all of RAM');
}
