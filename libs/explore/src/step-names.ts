// A step in words: its kind and what it is about, with the names of locks, domains, frames and devices.
import { formatSbdf } from '#model/frames/addresses';
import type { Host } from '#model/host';
import type { StepKindName } from '#model/shared-memory/step';
import { SLOTS_PER_TABLE } from '#model/shared-memory/table-pages';
import { RESUMED } from './control.ts';
import type { Steps } from './paper/steps.ts';
import { describeKind, isLockStep, stepKindName } from './step-kinds.ts';

const hex = (n: number): string => n.toString(16);

/** What the number beside each kind of step is. */
const subjects: Readonly<Partial<Record<StepKindName, (h: Host, where: number) => string>>> = {
  lock: (h, where) => h.lockTable.nameOf(where),
  tryLock: (h, where) => h.lockTable.nameOf(where),
  unlock: (h, where) => h.lockTable.nameOf(where),
  p2mRead: (_, where) => `gfn ${hex(where)}`,
  p2mWrite: (_, where) => `gfn ${hex(where)}`,
  count: (_, where) => `gfn ${hex(where)}`,
  guestAccess: (_, where) => `gfn ${hex(where)}`,
  m2pWrite: (_, where) => `mfn ${hex(where)}`,
  refTake: (_, where) => `mfn ${hex(where)}`,
  refDrop: (_, where) => `mfn ${hex(where)}`,
  frameFree: (_, where) => `mfn ${hex(where)}`,
  scrub: (_, where) => `mfn ${hex(where)}`,
  cacheAdd: (_, where) => `mfn ${hex(where)}`,
  read: (_, where) => hex(where),
  write: (_, where) => hex(where),
  ptWrite: (_, where) => slotName(where),
  ioWrite: (_, where) => slotName(where),
  // Tables of quarantined devices are nobody's.
  ptAlloc: (h, where) => (where < h.config.maxDomains ? `of d${h.slot(where).domid}` : 'of d[IO]'),
  ptFree: (_, where) => `table ${where}`,
  ctxWrite: (h, where) => formatSbdf(h.iommu.requesters.at(where).sbdf),
  frameAlloc: (_, where) => `order ${where}`,
  cpuFlush: (_, where) => `of d${where}`,
  cpuFlushDefer: (_, where) => `of d${where}`,
  cacheGet: (_, where) => `of d${where}`,
  hypercall: (_, where) => `of d${where}`,
  iotlbFlush: (_, where) => `iommu:${where}`,
  waitFor: (_, where) => `DMA in flight on iommu:${where}`,
  hwFlush: (_, where) => `iommu:${where}`,
  deviceAttach: (h, where) => formatSbdf(h.iommu.device(where).sbdf),
  deviceTlbFlush: (h, where) => formatSbdf(h.iommu.device(where).sbdf),
  dma: (_, where) => `dfn ${hex(where)}`,
  hwWalk: (_, where) => hex(where),
  tlbFill: (_, where) => hex(where),
};

const slotName = (where: number): string => `table ${Math.floor(where / SLOTS_PER_TABLE)}[${where % SLOTS_PER_TABLE}]`;

/** Of a step program. */
export function describePaperStep(p: Steps, kind: number, where: number): string {
  if (kind === RESUMED) return where < 0 ? 'goes on' : `has ${p.locks.nameOf(where)}`;
  const subject = isLockStep(kind) ? p.locks.nameOf(where) : (p.texts.textOf(where) ?? '');
  return `${describeKind(kind)} ${subject}`.trimEnd();
}

export function describeStep(h: Host, kind: number, where: number): string {
  if (kind === RESUMED) return where < 0 ? 'goes on' : `has ${h.lockTable.nameOf(where)}`;
  const name = stepKindName(kind);
  const subject = name === undefined ? undefined : subjects[name];
  return subject === undefined ? describeKind(kind) : `${describeKind(kind)} ${subject(h, where)}`;
}
