// A share of a search by chance, for whichever explore-worker takes it: the litmus test by its path in the clone and by its text's
// digest, so that all search the same one, and which seeds. What is found travels back as the explorer tells it.
import { z } from 'zod';
import type { ControlProtocol } from './control.ts';

const count = z.int().min(0);

const shareSchema = z.object({
  litmus: z.string().min(1).max(4096),
  /** SHA-256 of the file, hexadecimal. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  variants: z.array(z.string().max(200)).max(64).nullable(),
  scheduler: z.enum(['random', 'pct']),
  firstSeed: z.int(),
  seeds: count,
  depth: count,
  states: z.boolean(),
  seconds: count,
});
const answerSchema = z.object({
  title: z.string(),
  source: z.string(),
  variants: z.array(z.string()),
  /** One for each variant; its fields are the explorer's. */
  reports: z.array(z.looseObject({ variant: z.string() })),
});

export type ExploreShare = z.infer<typeof shareSchema>;
export type ExploreAnswer = z.infer<typeof answerSchema>;

/** The queue belongs to no host: explorers of all machines share it. */
export const EXPLORERS = 'explorers';

export const exploreControl: ControlProtocol<ExploreShare, ExploreAnswer> = {
  queue: 'explore',
  request: shareSchema,
  reply: answerSchema,
};
