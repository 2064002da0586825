// A fault plan as it travels between trusted processes: in the hypervisor's configuration, and with a placement to the guest
// process whose vCPUs it is for.
import { z } from 'zod';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { type StepKindName, stepKind } from '#model/shared-memory/step';

const count = z.int().min(0);
const positive = z.int().min(1);
const stepKinds = Object.keys(stepKind) as [StepKindName, ...StepKindName[]]; // Object.keys loses the key type

const fault = z.object({
  at: z.object({ kind: z.enum(stepKinds), where: z.int().optional(), nth: positive, every: positive.optional() }),
  on: z.object({ process: z.enum(['hypervisor', 'guest']).optional(), pcpu: count.optional() }).optional(),
  do: z.union([
    z.strictObject({ delayUs: z.number().min(0) }),
    z.strictObject({ stallMs: z.number().min(0) }),
    z.strictObject({ errno: positive }),
  ]),
});

// `undefined` for an absent option is what JSON cannot carry.
export const faultPlanSchema = z.array(fault) as unknown as z.ZodType<FaultPlan>;
