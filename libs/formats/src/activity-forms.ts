// The written form of activities among a guest's workloads (libs/model/src/guest/activity). Owns their keys and defaults.
import { z } from 'zod';
import type { ActivityName, ActivitySpec } from '#model/guest/activity/spec';
import { frameNumber, positive } from './yaml-fields.ts';

/** At 4 GiB: above the RAM of small guests, where firmware would put the BAR of an emulated device. */
const WINDOW = 0x100000;
const window = frameNumber.default(WINDOW);
/** Grants of one use. */
const grants = positive.max(16).default(2);
const pages = positive.max(64).default(4);

/** Of a machine: half of them for each of its two vCPUs. */
const machinePages = positive.multipleOf(2).max(64).default(4);

export const activityForms = [
  z.strictObject({ run: z.literal('lender'), window, pages }),
  z.strictObject({ run: z.literal('borrower'), window, pages }),
  z.strictObject({ run: z.literal('copier'), window, pages }),
  z.strictObject({ run: z.literal('large-lender'), window, order: z.enum(['4k', '2m']).default('4k') }),
  z.strictObject({ run: z.literal('hoarder'), window }),
  z.strictObject({ run: z.literal('gntdev'), pages: grants, use: z.enum(['io', 'gpu']) }),
  z.strictObject({ run: z.literal('frontend'), pages: grants }),
  z.strictObject({ run: z.literal('mover') }),
  z.strictObject({ run: z.literal('translator'), pages, window: frameNumber.default(0) }),
  z.strictObject({ run: z.literal('bar-placer'), window: frameNumber, pages, mfn: frameNumber }),
  z.strictObject({ run: z.literal('kvm'), pages: machinePages, snapshot: z.enum(['64', 'int32']).default('64') }),
] as const;

export const activityNames = [
  'lender',
  'borrower',
  'kvm',
  'copier',
  'large-lender',
  'hoarder',
  'gntdev',
  'frontend',
  'mover',
  'translator',
  'bar-placer',
] as const satisfies readonly ActivityName[];
export const isActivity = (workload: { readonly run: string }): workload is ActivitySpec =>
  activityNames.some((name) => name === workload.run);

/** A step for one activity of a guest; a guest has at most one of a name. */
export const activityName = z.enum(activityNames);
