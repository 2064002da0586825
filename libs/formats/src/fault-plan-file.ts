// Injected faults as a scenario writes them, and their change into the model's one fault-plan format. Owns the written form;
// what a fault does at a step is the model's.
import { z } from 'zod';
import { type ErrnoName, errno } from '#model/hypercall/errno';
import type { PlannedFault } from '#model/shared-memory/fault-plan';
import { type StepKindName, stepKind } from '#model/shared-memory/step';
import { count, durationUs, positive } from './yaml-fields.ts';

const stepKinds = Object.keys(stepKind) as [StepKindName, ...StepKindName[]]; // the table's own keys
const errnoNames = Object.keys(errno) as [ErrnoName, ...ErrnoName[]]; // the table's own keys

export const faultSchema = z.strictObject({
  at: z.strictObject({
    kind: z.enum(stepKinds),
    where: count.optional(),
    nth: positive,
    every: positive.optional(),
  }),
  on: z.strictObject({ process: z.enum(['hypervisor', 'guest']).optional(), pcpu: count.optional() }).optional(),
  do: z
    .strictObject({ delay: durationUs.optional(), stall: durationUs.optional(), errno: z.enum(errnoNames).optional() })
    .refine((action) => Object.values(action).filter((part) => part !== undefined).length === 1, {
      message: 'one of delay, stall and errno is needed',
      params: { remedy: 'write one of { delay: 200us }, { stall: 2s }, { errno: ENOMEM }' },
    }),
});

export function toFault({ at, on, do: action }: z.output<typeof faultSchema>): PlannedFault {
  return {
    at: {
      kind: at.kind,
      nth: at.nth,
      ...(at.where === undefined ? {} : { where: at.where }),
      ...(at.every === undefined ? {} : { every: at.every }),
    },
    ...(on === undefined
      ? {}
      : {
          on: {
            ...(on.process === undefined ? {} : { process: on.process }),
            ...(on.pcpu === undefined ? {} : { pcpu: on.pcpu }),
          },
        }),
    do: toAction(action),
  };
}

function toAction(action: z.output<typeof faultSchema>['do']): PlannedFault['do'] {
  if (action.delay !== undefined) return { delayUs: action.delay };
  if (action.stall !== undefined) return { stallMs: Math.ceil(action.stall / 1000) };
  if (action.errno !== undefined) return { errno: errno[action.errno] };
  throw new Error('toAction: the schema lets one of the three through');
}
