// What each step costs in virtual nanoseconds. Orders of magnitude of a server of the last years, chosen here and not measured on
// one machine: a conclusion that turns on a factor of two is not one this world can give. docs/timed-costs.md is made of this table.
import { type StepKindName, stepKind } from '#model/shared-memory/step';
import { RESUMED } from '../control.ts';

/** A step that the table does not name: a store. */
const OTHER_NS = 5;

/** Where an order of magnitude can be looked up. */
export const costSources = {
  synchronization:
    "David, Guerraoui, Trigonakis: Everything you always wanted to know about synchronization (SOSP '13)",
  memory:
    'the usual ladder of a server: L1 1 ns, L2 4 ns, L3 15–20 ns, DRAM 80–100 ns; 4 KiB are written at some 10 GB/s',
  shootdown: "Amit, Tai, Wei: Don't shoot down TLB shootdowns! (EuroSys '20)",
  exits: "Agesen, Mattson, Rugina, Sheldon: Software techniques for avoiding hardware virtualization exits (ATC '12)",
  iommu:
    "Malka, Amit, Ben-Yehuda, Tsafrir: rIOMMU, efficient IOMMU for I/O devices that employ ring buffers (ASPLOS '15)",
  pcie: "Neugebauer et al.: Understanding PCIe performance for end host networking (SIGCOMM '18)",
  model: 'an estimate from what the model does at the step, in the prices above',
} as const;

export interface StepCost {
  readonly kinds: readonly StepKindName[];
  readonly ns: number;
  /** What the time stands for. */
  readonly what: string;
  readonly source: keyof typeof costSources;
}

export const stepCosts: readonly StepCost[] = [
  {
    kinds: ['lock', 'tryLock'],
    ns: 20,
    what: 'a line with a lock in it comes from another core',
    source: 'synchronization',
  },
  {
    kinds: ['unlock'],
    ns: 10,
    what: 'a store with release order to a line that others look at',
    source: 'synchronization',
  },
  { kinds: ['waitFor'], ns: 20, what: 'a line that another core has written is read', source: 'synchronization' },
  {
    kinds: ['refTake', 'refDrop'],
    ns: 15,
    what: 'an atomic operation on a line that may be shared',
    source: 'synchronization',
  },
  { kinds: ['read'], ns: 2, what: 'a cached load', source: 'memory' },
  {
    kinds: ['write', 'count', 'tlbFill', 'guestAccess', 'cpuFlushDefer'],
    ns: 5,
    what: 'a cached store',
    source: 'memory',
  },
  {
    kinds: ['m2pWrite', 'ptWrite'],
    ns: 10,
    what: 'a store to a line that is not in the first cache',
    source: 'memory',
  },
  { kinds: ['ioWrite'], ns: 15, what: 'the same, and its line is written back for a walker', source: 'memory' },
  { kinds: ['p2mRead'], ns: 60, what: 'four dependent loads, the last from memory', source: 'memory' },
  { kinds: ['p2mWrite'], ns: 80, what: 'the walk, and the checks of a set_entry', source: 'model' },
  { kinds: ['ptAlloc', 'scrub', 'cacheAdd'], ns: 400, what: 'a page is zeroed', source: 'memory' },
  { kinds: ['frameAlloc'], ns: 150, what: "the buddy allocator's lists, two lines from memory", source: 'model' },
  { kinds: ['frameFree', 'ptFree'], ns: 100, what: 'the same, without a search', source: 'model' },
  { kinds: ['cacheGet', 'ctxWrite', 'deviceAttach'], ns: 50, what: 'a list or an entry in memory', source: 'model' },
  { kinds: ['cpuFlush'], ns: 2000, what: 'an interrupt to other cores, and their answer', source: 'shootdown' },
  { kinds: ['iotlbFlush'], ns: 300, what: 'a command is queued, a register written', source: 'iommu' },
  { kinds: ['hwFlush'], ns: 700, what: 'a unit carries it out and writes its status', source: 'iommu' },
  { kinds: ['deviceTlbFlush'], ns: 1500, what: 'a request to the device over the bus, and its answer', source: 'pcie' },
  { kinds: ['dma'], ns: 500, what: 'a trip over the bus', source: 'pcie' },
  { kinds: ['hwWalk'], ns: 150, what: 'a walk of a unit or CPU, one or two loads from memory', source: 'iommu' },
  { kinds: ['hypercall'], ns: 1000, what: 'an exit to the hypervisor and back, with its checks', source: 'exits' },
  { kinds: ['yield'], ns: 1500, what: 'the same, and the scheduler between', source: 'exits' },
];

const byKind: number[] = [];
for (const { kinds, ns } of stepCosts) for (const kind of kinds) byKind[stepKind[kind]] = ns;
byKind[RESUMED] = byKind[stepKind.lock] ?? OTHER_NS;

export const stepCostNs = (kind: number): number => byKind[kind] ?? OTHER_NS;
