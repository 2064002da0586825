// What is said about guests beside their hypercalls: the specification in a boot job, commands to a running guest through its
// supervisor, and the stream of what guests report. Trusted processes only; a guest process itself reaches none of it.

import { z } from 'zod';
import type { GuestCommand, GuestEventName, GuestEvents, GuestSpec, WorkloadSpec } from '#model/guest/guest-spec';
import { activityOrderSchema, activitySchema, sharingSchema } from './activity-messages.ts';
import type { ControlProtocol } from './control.ts';
import { guestQueue } from './names.ts';

const count = z.int().min(0);
const domid = z.int().min(0).max(0xffff);
const frame = z
  .int()
  .min(0)
  .max(2 ** 37);

/** Without `readonly` and `?`, which schemas do not know. */
type Bare<T> = T extends readonly (infer E)[]
  ? Bare<E>[]
  : T extends object
    ? { [K in keyof T]-?: Bare<Exclude<T[K], undefined>> }
    : T;
/** Builds only where a schema and the model's type say the same, key by key. */
type Agrees<S extends z.ZodType, T> = [Bare<z.infer<S>>] extends [Bare<T>]
  ? [Bare<T>] extends [Bare<z.infer<S>>]
    ? S
    : never
  : never;
/** An absent option is `undefined` to zod, which JSON cannot carry: the schema reads T. */
const schemaOf =
  <T>() =>
  <S extends z.ZodType>(schema: Agrees<S, T>): z.ZodType<T> =>
    schema as unknown as z.ZodType<T>;

const workloadBase = { id: z.string().min(1).max(128), vcpu: count.optional() };
export const workloadSchema = schemaOf<WorkloadSpec>()(
  z.discriminatedUnion('kind', [
    z.object({
      ...workloadBase,
      kind: z.literal('memory'),
      mb: count,
      framesPerSecond: z.number().min(0),
      verify: z.boolean(),
      onCorruption: z.enum(['panic', 'count']),
    }),
    z.object({
      ...workloadBase,
      kind: z.literal('gpu'),
      device: count,
      bufferGfn: frame.nullable(),
      bufferFrames: count,
      bursts: count,
      burstFrames: count,
      framesPerSecond: z.number().min(0),
      onFault: z.enum(['crash', 'count']),
      resetsBeforeCrash: count,
    }),
    z.object({
      ...workloadBase,
      kind: z.literal('nic'),
      device: count,
      ringFrames: count,
      framesPerSecond: z.number().min(0),
      passes: count,
      verifyEvery: count,
    }),
    z.object({ ...workloadBase, kind: z.literal('usb'), device: count, framesPerSecond: z.number().min(0) }),
    z.object({
      ...workloadBase,
      kind: z.literal('vgpu'),
      device: count,
      firstGfn: frame,
      pagesGfn: frame.nullable(),
      frames: z.int().min(1).max(512),
    }),
    z.object({ ...workloadBase, kind: z.literal('mediator'), device: count }),
    z.object({ ...workloadBase, kind: z.literal('activity'), spec: activitySchema }),
  ]),
);

const memoryMapEntry = z.object({ addr: count, size: count, type: z.literal([1, 2, 3, 4, 5]) });

export const guestSpecSchema = schemaOf<GuestSpec>()(
  z.object({
    domid,
    name: z.string(),
    control: z.boolean(),
    vcpus: z.int().min(1).max(128),
    seed: z.int(),
    e820: z.array(memoryMapEntry).nullable(),
    targetKb: count.nullable(),
    staticMaxKb: count.nullable(),
    bootTouchMb: count,
    allocation: z.enum(['scattered', 'top-down']),
    balloon: z.object({
      enabled: z.boolean(),
      order: z.enum(['4k', '2m']),
      waitAtBoot: z.boolean(),
      scrub: z.boolean(),
      maxRetryCount: count,
      hotplugMb: count,
      bootTimeoutMs: count,
    }),
    foreignMapPlace: z.enum(['ballooned-hole', 'top-of-ram']),
    sharing: sharingSchema.optional(),
    workloads: z.array(workloadSchema).max(64),
    pci: z
      .array(
        z.object({
          device: count,
          windows: z.array(z.object({ bar: count, gfn: frame.nullable(), pages: count })).max(6),
        }),
      )
      .max(256)
      .optional(),
    timeScale: z.number().positive(),
  }),
);

export const guestCommandSchema = schemaOf<GuestCommand>()(
  z.discriminatedUnion('do', [
    z.object({ do: z.literal('target'), kib: count }),
    z.object({ do: z.literal('start'), workload: workloadSchema }),
    z.object({ do: z.literal('stop'), id: z.string() }),
    z.object({
      do: z.literal('gpu-dma'),
      device: count,
      attempts: count,
      place: z.union([z.literal(['untouched', 'touched', 'rmrr']), frame]),
    }),
    z.object({
      do: z.literal('foreign-copy'),
      id: z.string(),
      domid,
      gfn: frame,
      pages: count,
      batch: z.int().min(1),
      tag: z.int(),
    }),
    z.object({ do: z.literal('reserved-io'), device: count, attempts: count }),
    z.object({
      do: z.literal('enter-reserved'),
      id: z.string(),
      device: count,
      how: z.enum(['populate', 'give-up', 'move']),
      attempts: count,
    }),
    z.object({ do: z.literal('bar-io'), id: z.string(), device: count, bar: count, attempts: count.max(65_536) }),
    z.object({
      do: z.literal('gpu'),
      id: z.string(),
      device: count,
      act: z.discriminatedUnion('what', [
        z.object({ what: z.enum(['render', 'balloon', 'remap', 'run', 'halt']), attempts: count }),
        z.object({ what: z.literal('attach'), domid, mappable: count, unmappable: count }),
        z.object({ what: z.literal('detach'), domid }),
        z.object({ what: z.enum(['reuse', 'release']), attempts: count, firstBfn: frame, running: z.boolean() }),
      ]),
    }),
    z.object({ do: z.literal('activity'), id: z.string(), order: activityOrderSchema }),
    z.object({ do: z.literal('shutdown'), reason: count }),
  ]),
);

/** To the supervisor of one guest. */
export const guestRequestSchema = z.discriminatedUnion('op', [
  /** `await`: the reply carries the guest's first event of that name (and that `id`) after the command. */
  z.object({
    op: z.literal('command'),
    command: guestCommandSchema,
    await: z.object({ event: z.string(), id: z.string().nullable(), timeoutMs: count }).nullable(),
  }),
  /** Ends the guest process; the domain is the toolstack's business. */
  z.object({ op: z.literal('stop') }),
]);
export type GuestRequest = z.infer<typeof guestRequestSchema>;

export const guestReplySchema = z.object({
  /** What was awaited; null: nothing was, or it did not come in time. */
  event: z.object({ name: z.string(), data: z.record(z.string(), z.unknown()) }).nullable(),
});
export type GuestReply = z.infer<typeof guestReplySchema>;

export const guestControl = (domid: number): ControlProtocol<GuestRequest, GuestReply> => ({
  queue: guestQueue(domid),
  request: guestRequestSchema,
  reply: guestReplySchema,
});

type EventOf<N extends GuestEventName> = { readonly kind: 'event'; readonly name: N; readonly data: GuestEvents[N] };
export type GuestEvent = { [N in GuestEventName]: EventOf<N> }[GuestEventName];

/** What happened to a guest, or in it. */
export type GuestHappening =
  | {
      readonly kind: 'placed';
      readonly guest: string;
      readonly agent: string;
      readonly agentPid: number;
      readonly pid: number;
    }
  | GuestEvent
  /** The guest's process is gone. `expected`: it was stopped, or its domain had shut down. */
  | {
      readonly kind: 'exit';
      readonly code: number | null;
      readonly signal: string | null;
      readonly why: string;
      readonly expected: boolean;
    };

/** One record of the stream `guest`, as JSON text. */
export type GuestNews = GuestHappening & {
  readonly tsUs: number;
  readonly domid: number;
  readonly incarnation: number;
};

export const encodeGuestNews = (news: GuestNews): string => JSON.stringify(news);
/** Written by a trusted process of this version. */
export const decodeGuestNews = (record: Uint8Array): GuestNews =>
  JSON.parse(Buffer.from(record).toString()) as GuestNews;
