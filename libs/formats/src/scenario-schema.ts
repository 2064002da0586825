// The written form of a scenario file: the keys of its body, which a twin may write again to override them. Owns the schema
// only; merging and loading are scenario-file.ts's.
import { z } from 'zod';
import { faultSchema } from './fault-plan-file.ts';
import { stepSchema, workloadSchema, xlSettings } from './scenario-steps.ts';
import { mebibytes, name, positive } from './yaml-fields.ts';

const workloads = z.array(workloadSchema);

const guest = z.strictObject({
  name,
  config: z.string().min(1).optional(),
  set: xlSettings.optional(),
  workload: workloads.optional(),
});

const body = {
  host: z.string().min(1).optional(),
  dom0: z
    .strictObject({
      memoryMb: mebibytes.optional(),
      vcpus: positive.max(128).optional(),
      workload: workloads.optional(),
    })
    .optional(),
  policies: z.record(z.string(), z.unknown()).optional(),
  timeScale: z.number().positive().max(1000).optional(),
  attempts: positive.max(1_000_000).optional(),
  guests: z.array(guest).optional(),
  timeline: z.array(stepSchema).min(1).optional(),
  faults: z.array(faultSchema).optional(),
  /** Each item is read by its own kind (scenario-assertions.ts). */
  expect: z.array(z.unknown()).min(1).optional(),
};

const twin = z.strictObject({ kind: z.enum(['buggy', 'fixed', 'plain']), title: z.string().min(1), ...body });

export const scenarioSchema = z.strictObject({
  question: z.string().min(1),
  ...body,
  twins: z.record(z.string(), twin).optional(),
});

export type WrittenScenario = z.output<typeof scenarioSchema>;
export type WrittenTwin = z.output<typeof twin>;
export type WrittenBody = Omit<WrittenTwin, 'kind' | 'title'>;
export type WrittenGuest = z.output<typeof guest>;
