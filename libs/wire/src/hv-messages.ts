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
  /** The request was understood and cannot be answered: no such domain. */
  z.object({ op: z.literal('refused'), why: z.string() }),
]);
export type HvReply = z.infer<typeof hvReplySchema>;

export const hvControl: ControlProtocol<HvRequest, HvReply> = {
  queue: hvQueue,
  request: hvRequestSchema,
  reply: hvReplySchema,
};
