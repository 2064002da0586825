// The messages of the queues, as zod schemas: a vCPU's envelope and its reply, the boot job, the xl job. What stands inside an
// envelope's `calls` is call-table.ts' business, checked there by hand because it is the hot path; everything else is here.
//
// Two kinds of wrong: a malformed *envelope* is a transport error, with no effect; a malformed *call* in a good envelope is
// answered in its place, and its neighbours run.

import { z } from 'zod';
import { MAX_MEMORY_MAP } from '#model/domain/domain-record';
import type { Call } from '#model/hypercall/calls';
import { extentCount } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import { type Answers, decodeAnswer, encodeAnswer } from './answer-codec.ts';
import { type CallFault, decodeCall, encodeCall, isCallFault } from './call-codec.ts';
import { LOAD_MAX } from './call-table.ts';
import { faultPlanSchema } from './fault-plan.ts';
import { isEpoch } from './names.ts';

/** Calls in one envelope. */
export const CALLS_MAX = 4096;
/** Answers may carry this many values (of at most 20 characters) beside their `rc` in one envelope; beyond it: E2BIG. */
export const WIDE_MAX = 4 * LOAD_MAX;
/** Values in one domain's description, and in a piece of the console's text. */
const DOMAIN_INFO_VALUES = 32;
const CONSOLE_VALUES = 4096;
const DOMAINS_MAX = 1024;
const REGIONS_MAX = 128;

const epoch = z.string().refine(isEpoch, 'an epoch is 1 to 64 letters and digits');
const positive = z.int().min(1);
const domid = z.int().min(0).max(0xffff);

export const envelopeSchema = z.object({
  epoch,
  incarnation: positive,
  seq: positive,
  calls: z.array(z.unknown()).max(CALLS_MAX),
});
export type WireEnvelope = z.infer<typeof envelopeSchema>;

/** Why a job had no effect, or why its effect cannot be told. Not Xen's errors: the queue's. */
export const transportCodes = [
  'BAD_ENVELOPE',
  'REFUSED_OPTS',
  'STALE_EPOCH',
  'STALE_INCARNATION',
  'SEQ_TOO_OLD',
  'HANDLER_FAILED',
] as const;
export type TransportCode = (typeof transportCodes)[number];

export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly code: TransportCode;
  constructor(code: TransportCode, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

export interface Envelope {
  readonly epoch: string;
  readonly incarnation: number;
  readonly seq: number;
  /** The calls that could be read, in order. */
  readonly calls: readonly Call[];
  /** By position in the envelope: the answer of each call that could not be read; null where it could. */
  readonly faults: readonly (CallFault | null)[];
  readonly faultCount: number;
  /** Values that the answers may carry together. */
  readonly valueCount: number;
}

/** How many values the answer carries at most beside its `rc`; 0 for all calls whose answers are a few numbers. */
function valuesAnswered(call: Call): number {
  switch (call.op) {
    case 'load':
      return extentCount(call.frames);
    case 'add_to_physmap_batch':
      return extentCount(call.idxs);
    case 'memory_map':
      return MAX_MEMORY_MAP * 3;
    case 'reserved_device_memory_map':
      return Math.min(call.capacity, REGIONS_MAX) * 2;
    case 'get_device_group':
      return Math.min(call.max, REGIONS_MAX);
    case 'getdomaininfo':
      return DOMAIN_INFO_VALUES;
    case 'getdomaininfolist':
      return Math.min(call.max, DOMAINS_MAX) * DOMAIN_INFO_VALUES;
    case 'page_offline_op':
      return Math.min(Math.max(0, call.end - call.start) + 1, LOAD_MAX);
    case 'shadow_op':
      return call.copy ? Math.ceil(call.pages / 32) : 0;
    case 'track_dirty_vram':
      return Math.ceil(call.count / 32);
    case 'readconsole':
      return CONSOLE_VALUES;
    default:
      return 0;
  }
}

/** Reads what a guest put into its queue. Throws TransportError('BAD_ENVELOPE') and nothing else. */
export function decodeEnvelope(data: unknown): Envelope {
  const parsed = envelopeSchema.safeParse(data);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new TransportError(
      'BAD_ENVELOPE',
      `${issue?.path.join('.') || 'envelope'}: ${issue?.message ?? 'malformed'}`,
    );
  }
  const calls: Call[] = [];
  const faults: (CallFault | null)[] = [];
  let wide = 0;
  for (const wire of parsed.data.calls) {
    let decoded = decodeCall(wire);
    if (!isCallFault(decoded)) {
      const values = valuesAnswered(decoded);
      if (wide + values > WIDE_MAX) decoded = { rc: -errno.E2BIG };
      else wide += values;
    }
    if (isCallFault(decoded)) {
      faults.push(decoded);
    } else {
      calls.push(decoded);
      faults.push(null);
    }
  }
  const { epoch, incarnation, seq } = parsed.data;
  return { epoch, incarnation, seq, calls, faults, faultCount: faults.length - calls.length, valueCount: wide };
}

export function encodeEnvelope(epoch: string, incarnation: number, seq: number, calls: readonly Call[]): WireEnvelope {
  return { epoch, incarnation, seq, calls: calls.map(encodeCall) };
}

/** The hypervisor's answers in the order of the envelope, with those that the transport gave in their places. */
export function mergeAnswers(faults: readonly (CallFault | null)[], answers: Answers): Answers {
  let next = 0;
  // The handler gave one answer for each call it was handed (asserted by the worker).
  return faults.map((fault) => fault ?? (answers[next++] as Answers[number]));
}

/** What a reply says: answers, or why there are none. It travels as JSON text, kept as such in the ledger and the job. */
export const replyBodySchema = z.union([
  z.object({ a: z.array(z.unknown()) }),
  z.object({ t: z.tuple([z.enum(transportCodes), z.string()]) }),
]);

export const encodeAnswers = (answers: Answers): string => JSON.stringify({ a: answers.map(encodeAnswer) });
export const encodeTransportError = (error: TransportError): string =>
  JSON.stringify({ t: [error.code, error.message.slice(error.code.length + 2)] });

/** Throws the TransportError that the body carries. */
export function decodeReplyBody(body: unknown): Answers {
  const reply = replyBodySchema.parse(body);
  if ('t' in reply) throw new TransportError(...reply.t);
  return reply.a.map(decodeAnswer);
}

/** On the reply channel: which vCPU's which job, and the body as it stands in the ledger. */
export const encodeReply = (vcpu: number, jobId: string, body: string): string =>
  `{"v":${vcpu},"j":${JSON.stringify(jobId)},"r":${body}}`;
export const replySchema = z.object({ v: z.int(), j: z.string(), r: z.unknown() });

/** Toolstack → supervisor: place a guest. `guest` is the agent's own specification of it. */
export const bootRequestSchema = z.object({
  domid,
  incarnation: positive,
  epoch,
  credentials: z.object({ username: z.string().min(1), password: z.string().min(1) }),
  guest: z.json(),
  /** Faults for its vCPUs; absent: none. */
  faults: faultPlanSchema.optional(),
});
export const bootReplySchema = z.object({ agent: z.string(), pid: z.int().min(1) });
export type BootRequest = z.infer<typeof bootRequestSchema>;
export type BootReply = z.infer<typeof bootReplySchema>;

/** Command line → toolstack: one xl verb. */
export const xlRequestSchema = z.object({
  verb: z.string().min(1).max(64),
  args: z.array(z.string().max(65_536)).max(256),
});
export const xlReplySchema = z.object({ exitCode: z.int().min(0).max(255), stdout: z.string(), stderr: z.string() });
export type XlRequest = z.infer<typeof xlRequestSchema>;
export type XlReply = z.infer<typeof xlReplySchema>;
