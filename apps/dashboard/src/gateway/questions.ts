// What a page may want and ask, checked: everything that comes from a browser is read by these schemas first.
import { z } from 'zod';
import type { Question } from '#wire/dashboard';
import type { LiveWant } from '#wire/live';

const frame = z
  .int()
  .min(0)
  .max(2 ** 37);
const domid = z.int().min(0).max(0xffff);

export const wantsSchema: z.ZodType<LiveWant[]> = z
  .array(
    z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('map'), first: frame, order: z.int().min(0).max(24) }),
      z.object({ kind: z.literal('strip'), domid, from: frame, to: frame }),
      z.object({ kind: z.literal('lanes') }),
    ]),
  )
  .max(4);

export const questionSchema: z.ZodType<Question> = z.discriminatedUnion('ask', [
  z.object({ ask: z.literal('why'), sbdf: z.int().min(0), dfn: frame }),
  z.object({ ask: z.literal('frame'), mfn: frame }),
  z.object({ ask: z.literal('gfn'), domid, gfn: frame }),
]);

/** What a page says of itself when it connects. */
export const handshakeSchema = z.object({
  token: z.string().max(256).optional(),
  life: z.string().max(64).optional(),
  seq: z.int().min(0).optional(),
});
