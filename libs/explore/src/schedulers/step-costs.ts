// What each step costs in virtual nanoseconds. Orders of magnitude of a server of the last years, chosen here and not measured on
// one machine: a conclusion that turns on a factor of two is not one this world can give. The comments say what each stands for.
import { type StepKindName, stepKind } from '#model/shared-memory/step';
import { RESUMED } from '../control.ts';

/** A step that the table does not name: a store. */
const OTHER_NS = 5;

export const costNs: Readonly<Partial<Record<StepKindName, number>>> = {
  // a contended line moves between cores in some tens of ns
  lock: 20,
  tryLock: 20,
  unlock: 10,
  // one cached load or store
  read: 2,
  write: 5,
  count: 5,
  // four dependent loads, some of them from memory
  p2mRead: 60,
  p2mWrite: 80,
  m2pWrite: 10,
  ptWrite: 10,
  ioWrite: 15,
  // a zeroed page
  ptAlloc: 400,
  ptFree: 100,
  scrub: 400,
  frameAlloc: 150,
  frameFree: 100,
  refTake: 15,
  refDrop: 15,
  cacheAdd: 400,
  cacheGet: 50,
  ctxWrite: 50,
  // an interrupt to other cores and back
  cpuFlush: 2000,
  cpuFlushDefer: 5,
  // a register or queue write, the unit's work, the read of the status
  iotlbFlush: 300,
  hwFlush: 700,
  deviceTlbFlush: 1500,
  waitFor: 20,
  // one trip over PCIe
  dma: 500,
  hwWalk: 150,
  tlbFill: 5,
  guestAccess: 5,
  // an exit to the hypervisor and back
  hypercall: 1000,
  yield: 1500,
  deviceAttach: 50,
};

const byKind: number[] = [];
for (const [kind, ns] of Object.entries(costNs)) byKind[stepKind[kind as StepKindName]] = ns;
byKind[RESUMED] = costNs.lock ?? OTHER_NS;

export const stepCostNs = (kind: number): number => byKind[kind] ?? OTHER_NS;
