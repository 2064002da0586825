// The written form of a scenario's timeline and workloads, and its change into the steps of scenario.ts. Owns the keys of
// each step; whether the guests and devices it names exist is checked by scenario-checks.ts.
import { z } from 'zod';
import { activityForms, activityName, activityNames } from './activity-forms.ts';
import type { Step, Workload, XlValue } from './scenario.ts';
import { toCondition } from './scenario-assertions.ts';
import { count, durationUs, frameNumber, mebibytes, name, positive, regex, sbdfField } from './yaml-fields.ts';
import type { Path, YamlSource } from './yaml-source.ts';

/** A number, or the scenario's own number of attempts. */
const attempts = z.unknown().transform((value, context): number | 'attempts' => {
  if (value === 'attempts') return value;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 1e6) return value;
  const remedy = 'write a number from 1 to 1000000, or attempts for the scenario’s `attempts`';
  context.addIssue({ code: 'custom', message: 'must be a count', params: { remedy } });
  return z.NEVER;
});

const rate = z
  .unknown()
  .transform((value, context): number | 'max' => {
    if (value === 'max' || value === undefined) return 'max';
    if (typeof value === 'number' && value > 0) return value;
    context.addIssue({
      code: 'custom',
      message: 'must be a rate',
      params: { remedy: 'write a number a second, or max' },
    });
    return z.NEVER;
  })
  .optional();

/** 80 MiB: above what a kernel touches when it boots, in guests of one kind at the same place. */
const VGPU_FIRST_GFN = 0x5000;

const workloadForms = [
  z.strictObject({ run: z.literal('boot-touch'), mb: mebibytes }),
  z.strictObject({ run: z.literal('balloon') }),
  z.strictObject({ run: z.literal('memory'), mb: mebibytes, rate, verify: z.boolean().default(true) }),
  z.strictObject({
    run: z.literal('gpu'),
    device: sbdfField,
    bufferGfn: frameNumber.optional(),
    bufferFrames: positive.max(2 ** 20).default(256),
    bursts: count.default(0),
    rate,
  }),
  z.strictObject({ run: z.literal('nic'), device: sbdfField, ringFrames: positive.max(2 ** 20), rate }),
  z.strictObject({ run: z.literal('usb'), device: sbdfField, rate: count.max(1000).default(0) }),
  z.strictObject({
    run: z.literal('vgpu'),
    device: sbdfField,
    firstGfn: frameNumber.default(VGPU_FIRST_GFN),
    pagesGfn: frameNumber.optional(),
    frames: positive.max(512).default(16),
  }),
  z.strictObject({ run: z.literal('mediator'), device: sbdfField }),
  ...activityForms,
] as const;

export const workloadSchema = z.discriminatedUnion('run', workloadForms);
const workloadNames = [
  ...activityNames,
  'boot-touch',
  'balloon',
  'memory',
  'gpu',
  'nic',
  'usb',
] as const satisfies readonly Workload['run'][];

/** xl.cfg values: texts, whole numbers, lists of texts. */
export const xlSettings = z.record(
  z.string().regex(/^[a-z][a-z0-9._]*$/, 'xl.cfg keys are lower case letters, digits, dot and underscore'),
  z.unknown().transform((value, context): XlValue => {
    if (typeof value === 'string' || (typeof value === 'number' && Number.isInteger(value))) return value;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    const remedy =
      typeof value === 'boolean' ? `write ${value ? 1 : 0}` : 'use a text, a whole number or a list of texts';
    context.addIssue({ code: 'custom', message: 'must be an xl.cfg value', params: { remedy } });
    return z.NEVER;
  }),
);

const gfnChoice = z.unknown().transform((value, context): number | 'untouched' | 'touched' | 'rmrr' => {
  if (value === 'untouched' || value === 'touched' || value === 'rmrr') return value;
  const frame = frameNumber.safeParse(value);
  if (frame.success) return frame.data;
  const remedy = 'write a frame in hex, as in 0x7d0d6, or untouched, touched or rmrr';
  context.addIssue({ code: 'custom', message: 'must be a frame number or a choice', params: { remedy } });
  return z.NEVER;
});

/** `do`, its own keys, and those that every step has. */
function step<const Name extends Step['do'], Shape extends z.ZodRawShape>(action: Name, shape: Shape) {
  return z.strictObject({
    do: z.literal(action),
    ...shape,
    at: durationUs.optional(),
    times: attempts.optional(),
    expectError: regex.optional(),
  });
}

const onGuest = { guest: name };

export const stepSchema = z.discriminatedUnion('do', [
  step('create', { ...onGuest, set: xlSettings.default({}) }),
  step('destroy', onGuest),
  step('reboot', onGuest),
  step('begin', {
    ...onGuest,
    run: activityName,
    peers: z.array(name).max(4).default([]),
    attempts: attempts.optional(),
  }),
  step('set-target', { ...onGuest, target: name }),
  step('finish', {
    activities: z.array(z.strictObject({ ...onGuest, run: activityName })).min(1),
    keep: z.boolean().default(false),
  }),
  step('mem-set', { ...onGuest, mb: mebibytes }),
  step('mem-max', { ...onGuest, mb: mebibytes }),
  step('pci-assignable-add', { device: sbdfField }),
  step('pci-assignable-remove', { device: sbdfField }),
  step('pci-attach', { ...onGuest, device: sbdfField, policy: z.enum(['strict', 'relaxed']).optional() }),
  step('pci-detach', { ...onGuest, device: sbdfField }),
  step('squeeze-swap', { shrink: name, grow: name, mb: mebibytes }),
  step('start', { ...onGuest, workload: workloadSchema }),
  step('stop', { ...onGuest, workload: z.enum(workloadNames) }),
  step('gpu-dma', { ...onGuest, device: sbdfField, gfn: gfnChoice, attempts: attempts.default('attempts') }),
  step('reserved-io', { ...onGuest, device: sbdfField, attempts: attempts.default('attempts') }),
  step('enter-reserved', {
    ...onGuest,
    device: sbdfField,
    how: z.enum(['populate', 'give-up', 'move']),
    attempts: attempts.default('attempts'),
  }),
  step('bar-io', { ...onGuest, device: sbdfField, bar: count.max(5), attempts: attempts.default('attempts') }),
  step('device-model', {
    ...onGuest,
    device: sbdfField,
    how: z.union([z.strictObject({ page: frameNumber }), z.strictObject({ bar: count.max(5) })]),
  }),
  step('vgpu', {
    ...onGuest,
    device: sbdfField,
    act: z.enum(['attach', 'detach', 'render', 'balloon', 'remap', 'run', 'halt']),
    attempts: attempts.optional(),
  }),
  step('bus-frames', {
    device: sbdfField,
    act: z.enum(['reuse', 'release']),
    card: z.enum(['running', 'stopped']).default('running'),
    attempts: attempts.default('attempts'),
  }),
  step('wait-for', { condition: z.record(z.string(), z.unknown()), timeout: durationUs }),
  step('create-beside', { count: attempts, memoryMb: mebibytes }),
  step('kill', { what: z.enum(['hypervisor', 'toolstack', 'guest-agent']), guest: name.optional() }),
  step('check-invariants', {}),
]);

const isVgpuLoop = (act: string): boolean => act === 'render' || act === 'balloon' || act === 'remap';

type WrittenStep = z.output<typeof stepSchema>;
type WrittenWorkload = z.output<typeof workloadSchema>;

export function toWorkload(written: WrittenWorkload): Workload {
  switch (written.run) {
    case 'memory':
      return { ...written, rate: written.rate ?? 'max' };
    case 'gpu':
      return { ...written, rate: written.rate ?? 'max', bufferGfn: written.bufferGfn ?? null };
    case 'nic':
      return { ...written, rate: written.rate ?? 'max' };
    case 'vgpu':
      return { ...written, pagesGfn: written.pagesGfn ?? null };
    default:
      return written;
  }
}

/** The step at `path`, with the scenario's `attempts` filled in; null after noting what is wrong with its condition. */
export function toStep(written: WrittenStep, path: Path, source: YamlSource, scenarioAttempts: number): Step | null {
  const number = (n: number | 'attempts'): number => (n === 'attempts' ? scenarioAttempts : n);
  const { at, times, expectError, ...action } = written;
  const common = {
    line: source.line(path),
    atUs: at ?? null,
    times: number(times ?? 1),
    expectError: expectError ?? null,
  };
  switch (action.do) {
    case 'start':
      return { ...action, workload: toWorkload(action.workload), ...common };
    case 'gpu-dma':
    case 'reserved-io':
    case 'enter-reserved':
    case 'bar-io':
      return { ...action, attempts: number(action.attempts), ...common };
    case 'bus-frames':
      return { ...action, attempts: number(action.attempts), ...common };
    // What is done once is no attempt.
    case 'vgpu':
      return { ...action, attempts: number(action.attempts ?? (isVgpuLoop(action.act) ? 'attempts' : 1)), ...common };
    case 'begin':
      return { ...action, attempts: action.attempts === undefined ? 0 : number(action.attempts), ...common };
    case 'pci-attach':
      return { ...action, policy: action.policy ?? null, ...common };
    case 'create-beside':
      return { ...action, count: number(action.count), ...common };
    case 'wait-for': {
      const condition = toCondition([...path, 'condition'], source);
      return condition && { do: 'wait-for', condition, timeoutUs: action.timeout, ...common };
    }
    case 'kill':
      if (action.what !== 'guest-agent') return { do: 'kill', what: action.what, ...common };
      if (action.guest !== undefined) return { do: 'kill', what: 'guest-agent', guest: action.guest, ...common };
      source.problem(path, 'missing key `guest`', 'name the guest whose agent is killed');
      return null;
    default:
      return { ...action, ...common };
  }
}
