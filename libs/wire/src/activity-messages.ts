// Activities of guests as they travel: their specifications in boot jobs and what a running one is told. guest-messages.ts holds the
// schemas against the model's types.
import { z } from 'zod';

const count = z.int().min(0);
const frame = count.max(2 ** 37);

export const activitySchema = z.discriminatedUnion('run', [
  z.object({ run: z.literal('lender'), window: frame, pages: count.max(128) }),
  z.object({ run: z.literal('borrower'), window: frame, pages: count.max(128) }),
  z.object({ run: z.literal('copier'), window: frame, pages: count.max(128) }),
  z.object({ run: z.literal('large-lender'), window: frame, order: z.enum(['4k', '2m']) }),
  z.object({ run: z.literal('hoarder'), window: frame }),
  z.object({ run: z.literal('gntdev'), pages: count.max(16), use: z.enum(['io', 'gpu']) }),
  z.object({ run: z.literal('frontend'), pages: count.max(16) }),
  z.object({ run: z.literal('mover') }),
  z.object({ run: z.literal('translator'), pages: count.max(128), window: frame }),
  z.object({ run: z.literal('bar-placer'), window: frame, pages: count.max(128), mfn: frame }),
  z.object({ run: z.literal('kvm'), pages: count.max(128), snapshot: z.enum(['64', 'int32']) }),
]);

export const activityOrderSchema = z.discriminatedUnion('begin', [
  z.object({ begin: z.literal(true), turn: count, peers: z.array(count.max(0xffff)).max(4), attempts: count }),
  z.object({ begin: z.literal(false), turn: count }),
]);

export const sharingSchema = z.object({
  share: z.enum(['grant', 'foreign', 'lend', 'fixed-blob']),
  mapping: z.enum(['notifier', 'pin']),
  retryCheck: z.enum(['under-lock', 'hypervisor', 'before-lock', 'missing']),
  gntdevUnmap: z.enum(['asynchronous', 'synchronous']),
  gpuCallback: z.enum(['zap', 'fence']),
  grantBusy: z.enum(['defer', 'ignore']),
});
