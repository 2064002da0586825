// What the launcher and the toolstack ask of the hypervisor process itself, beside hypercalls: its lock profile and counters, a
// check of the invariants, a look at one gfn, a guest's credentials. Privileged: no guest can reach this queue.
import { z } from 'zod';
import type { ControlProtocol } from './control.ts';
import { faultPlanSchema } from './fault-plan.ts';
import { hvQueue } from './names.ts';

const domid = z.int().min(0).max(0xffff);
const frame = z
  .int()
  .min(0)
  .max(2 ** 37);

/** What somebody wants to see (live.ts). */
const want = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('map'), first: frame, order: z.int().min(0).max(24) }),
  z.object({ kind: z.literal('strip'), domid, from: frame, to: frame }),
  z.object({ kind: z.literal('lanes') }),
]);
export const WANTS_MAX = 16;

export const hvRequestSchema = z.discriminatedUnion('op', [
  /** Who is there: epoch, dom0, this process. */
  z.object({ op: z.literal('info') }),
  z.object({ op: z.literal('lockprof') }),
  z.object({ op: z.literal('counters') }),
  /** Parks all pCPUs, drains DMA, checks the state invariants. */
  z.object({ op: z.literal('check-invariants') }),
  /** Reads what p2m and IOMMU hold for a gfn, without a lock. */
  z.object({ op: z.literal('peek'), domid, gfn: frame, sbdf: z.int().min(0).optional() }),
  /** The domain's gfn space as runs of one type. */
  z.object({ op: z.literal('memory-map'), domid, maxRuns: z.int().min(1).max(100_000) }),
  /** Credentials with which a domain's guest process reaches its queues. */
  z.object({ op: z.literal('grant'), domid }),
  /** What the host is made of. */
  z.object({ op: z.literal('machine') }),
  /** Somebody looks: pictures are put on the stream `live` for so long. `fresh`: those that did not change too. */
  z.object({
    op: z.literal('watch'),
    leaseMs: z.int().min(0).max(10_000),
    wants: z.array(want).max(WANTS_MAX),
    fresh: z.boolean(),
  }),
  /** Everything that stands behind one address of one device. */
  z.object({ op: z.literal('why'), sbdf: z.int().min(0), dfn: frame }),
  /** One frame of the host. */
  z.object({ op: z.literal('frame'), mfn: frame }),
  /** Who changed a gfn last. */
  z.object({ op: z.literal('changes'), domid, gfn: frame }),
  /** What a domain's firmware printed, which the builder ran for it. */
  z.object({ op: z.literal('console'), domid, lines: z.array(z.string().max(4096)).max(4096) }),
]);
export type HvRequest = z.infer<typeof hvRequestSchema>;

const violation = z.object({
  invariant: z.string(),
  text: z.string(),
  evidence: z.record(z.string(), z.union([z.number(), z.string()])),
});

export const lockRowSchema = z.object({
  name: z.string(),
  /** A domain's number, a unit's, a device's index; -1: one for the whole host. */
  scope: z.int(),
  lockCnt: z.number(),
  blockCnt: z.number(),
  holdNs: z.number(),
  waitNs: z.number(),
  inXen: z.boolean(),
});

export const peekSchema = z.object({
  gfn: frame,
  p2mType: z.string(),
  /** -1: no frame. */
  mfn: z.number(),
  order: z.int(),
  /** UC, WB; `!` = whatever the guest's page attributes say; empty without a frame. */
  memoryType: z.string(),
  /** What a device of that domain would find. */
  iommu: z.enum(['absent', 'ro', 'wo', 'mapped', 'off']),
  iommuMfn: z.number(),
  iommuOrder: z.int(),
  iotlb: z.boolean(),
  shared: z.boolean(),
});
export type Peek = z.infer<typeof peekSchema>;

export const memoryRunSchema = z.object({
  start: frame,
  /** One past the last. */
  end: frame,
  type: z.string(),
  /** Of each leaf in the run. */
  order: z.int(),
});
export type MemoryRun = z.infer<typeof memoryRunSchema>;

export const gfnChangeSchema = z.object({
  tsUs: z.number(),
  caller: z.int(),
  vcpu: z.int(),
  op: z.string(),
  rc: z.number(),
  /** Of the extent that covered the gfn. */
  order: z.int(),
  note: z.string(),
});
export type GfnChange = z.infer<typeof gfnChangeSchema>;

const walkStep = z.object({
  /** 1 is the level of 4K leaves. */
  level: z.int(),
  table: z.number(),
  index: z.int(),
  kind: z.enum(['absent', 'table', 'leaf']),
  /** The table or frame it names; -1: none. */
  target: z.number(),
  read: z.boolean(),
  write: z.boolean(),
  /** p2m type of a leaf; empty in tables that only devices walk. */
  type: z.string(),
});
export type WalkStep = z.infer<typeof walkStep>;

export const whySchema = z.object({
  sbdf: z.int(),
  device: z.string(),
  dfn: z.number(),
  /** -1: nobody's. */
  domid: z.int(),
  domain: z.string(),
  unit: z.int(),
  context: z
    .object({ type: z.string(), levels: z.int(), did: z.int(), root: z.number(), shared: z.boolean() })
    .nullable(),
  /** Order of the cached translation; -1: none. */
  iotlbOrder: z.int(),
  ioWalk: z.array(walkStep),
  p2mWalk: z.array(walkStep),
  p2mType: z.string(),
  mfn: z.number(),
  order: z.int(),
  iommuEntry: z.enum(['absent', 'ro', 'mapped']),
  sharedTables: z.boolean(),
  sentence: z.string(),
  /** The newest first. */
  changes: z.array(gfnChangeSchema),
});
export type Why = z.infer<typeof whySchema>;

const range = z.object({ start: z.number(), end: z.number() });
export const machineSchema = z.object({
  name: z.string(),
  frames: z.number(),
  pcpus: z.int(),
  heap: z.array(range),
  memoryMap: z.array(z.object({ addr: z.number(), size: z.number(), type: z.int() })),
  units: z.array(z.object({ id: z.int(), superpages: z.string() })),
  devices: z.array(
    z.object({
      sbdf: z.int(),
      name: z.string(),
      unit: z.int(),
      bars: z.array(z.object({ index: z.string(), size: z.number(), hostAddr: z.number() })),
    }),
  ),
  /** Reserved regions, in frames, with the devices they are for. */
  rmrrs: z.array(z.object({ start: z.number(), end: z.number(), devices: z.array(z.int()) })),
  policies: z.record(z.string(), z.string()),
});
export type Machine = z.infer<typeof machineSchema>;

export const frameSchema = z.object({
  mfn: z.number(),
  /** -1: nobody's. */
  owner: z.int(),
  gfn: z.number(),
  references: z.number(),
  tag: z.number(),
  state: z.string(),
  p2mType: z.string(),
  order: z.int(),
  changes: z.array(gfnChangeSchema),
});
export type FrameLook = z.infer<typeof frameSchema>;

export const hvReplySchema = z.discriminatedUnion('op', [
  z.object({
    op: z.literal('info'),
    epoch: z.string(),
    pid: z.int(),
    host: z.string(),
    dom0: z.object({ domid, incarnation: z.int(), vcpus: z.int() }),
  }),
  z.object({ op: z.literal('lockprof'), elapsedNs: z.number(), rows: z.array(lockRowSchema) }),
  z.object({
    op: z.literal('counters'),
    counters: z.record(z.string(), z.number()),
    /** Of the transport: what the queues refused. */
    wire: z.record(z.string(), z.number()),
    /** Event invariants violated so far, by name. */
    violations: z.record(z.string(), z.number()),
    pcpuUs: z.array(z.number()),
  }),
  z.object({
    op: z.literal('check-invariants'),
    checked: z.array(z.string()),
    violations: z.array(violation),
    ms: z.number(),
  }),
  z.object({ op: z.literal('peek'), peek: peekSchema }),
  z.object({ op: z.literal('memory-map'), runs: z.array(memoryRunSchema), cut: z.boolean() }),
  z.object({
    op: z.literal('grant'),
    incarnation: z.int(),
    vcpus: z.int(),
    epoch: z.string(),
    credentials: z.object({ username: z.string(), password: z.string() }),
    /** What of the run's fault plan is for guests' vCPUs. */
    faults: faultPlanSchema,
  }),
  z.object({ op: z.literal('console') }),
  z.object({ op: z.literal('machine'), machine: machineSchema }),
  z.object({ op: z.literal('watch') }),
  z.object({ op: z.literal('why'), why: whySchema }),
  z.object({ op: z.literal('frame'), frame: frameSchema }),
  z.object({ op: z.literal('changes'), changes: z.array(gfnChangeSchema) }),
  /** The request was understood and cannot be answered: no such domain. */
  z.object({ op: z.literal('refused'), why: z.string() }),
]);
export type HvReply = z.infer<typeof hvReplySchema>;

export const hvControl: ControlProtocol<HvRequest, HvReply> = {
  queue: hvQueue,
  request: hvRequestSchema,
  reply: hvReplySchema,
};
