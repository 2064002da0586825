// The arguments of `xl create` on the wire: the text of the xl.cfg (the toolstack may stand on another machine than the file),
// what its messages call that file, settings on top of it, and what the guest's kernel is to do once it runs, which no xl.cfg
// can say. Used by the command line and the toolstack alike.

import { z } from 'zod';
import type { BalloonSpec, WorkloadSpec } from '#model/guest/guest-spec';
import { workloadSchema } from './guest-messages.ts';

const count = z.int().min(0);

const kernelOptions = z.object({
  /** Of the kernel's choices; by default the domid. */
  seed: z.int().optional(),
  bootTouchMb: count.default(64),
  allocation: z.enum(['scattered', 'top-down']).default('scattered'),
  balloon: z
    .object({
      enabled: z.boolean(),
      waitAtBoot: z.boolean(),
      scrub: z.boolean(),
      maxRetryCount: count,
      hotplugMb: count,
      bootTimeoutMs: count,
    })
    .partial()
    .default({}),
  workloads: z.array(workloadSchema).max(64).default([]),
  place: z.boolean().default(true),
});

/** Options not given take the values above; of the balloon's, those of the model. */
export interface KernelOptions {
  readonly seed?: number;
  readonly bootTouchMb?: number;
  readonly allocation?: 'scattered' | 'top-down';
  readonly balloon?: Partial<Omit<BalloonSpec, 'order'>>;
  readonly workloads?: readonly WorkloadSpec[];
  /** false: nobody runs its vCPUs; it is built, and that is all. */
  readonly place?: boolean;
}
export type ReadKernelOptions = z.infer<typeof kernelOptions>;

export interface CreateRequest {
  /** File name for messages. */
  readonly source: string;
  readonly text: string;
  readonly kernel: KernelOptions;
  /** `key=value` lines, as xl takes them behind the file's name. */
  readonly settings: readonly string[];
}

export function encodeCreate(request: CreateRequest): string[] {
  return [request.source, request.text, JSON.stringify(request.kernel), ...request.settings];
}

/** Throws an Error with one sentence. The text includes the settings, as xl appends them. */
export function decodeCreate(args: readonly string[]): { source: string; text: string; kernel: ReadKernelOptions } {
  const [source, text, kernel = '{}', ...settings] = args;
  if (source === undefined || text === undefined) throw new Error('create needs the name and the text of an xl.cfg');
  let json: unknown;
  try {
    json = JSON.parse(kernel);
  } catch {
    throw new Error('create: the third argument is the kernel options as JSON');
  }
  const parsed = kernelOptions.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new Error(`create: kernel options: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const whole = settings.length === 0 ? text : `${text.endsWith('\n') ? text : `${text}\n`}${settings.join('\n')}\n`;
  return { source, text: whole, kernel: parsed.data };
}
