// The written form of what a scenario expects (and of what a step waits for): one key says what kind of assertion it is.
// Owns those keys and their change into the assertions of scenario.ts; judging them is the runner's.
import { z } from 'zod';
import { type ErrnoName, errno } from '#model/hypercall/errno';
import { p2mTypeNames } from '#model/p2m/type-names';
import { counterNames } from '#model/shared-memory/counters';
import { regionTypes } from './host-schema.ts';
import { closestName } from './operator-error.ts';
import type { Assertion, Bound, GuestState } from './scenario.ts';
import { address, count, frameNumber, name, positive, regex, sbdfField } from './yaml-fields.ts';
import type { Path, YamlSource } from './yaml-source.ts';

const guestStates = ['running', 'crashed', 'absent', 'destroyed', 'at-target'] as const satisfies readonly GuestState[];
const errnoNames = Object.keys(errno) as [ErrnoName, ...ErrnoName[]]; // the table's own keys
const counterName = z.enum(counterNames);

const identifier = (what: string, pattern: RegExp, example: string) =>
  z.unknown().transform((value, context): string => {
    if (typeof value === 'string' && pattern.test(value)) return value;
    context.addIssue({ code: 'custom', message: `must be ${what}`, params: { remedy: `write it as ${example}` } });
    return z.NEVER;
  });
const invariantName = identifier("an invariant's name", /^[a-z][A-Za-z0-9]*$/, 'neighboursStayMapped');
const operation = identifier("an operation's name", /^[a-z][a-z0-9_]*$/, 'assign_device');
const invariantOrAll = identifier(
  "an invariant's name or *",
  /^(\*|[a-z][A-Za-z0-9]*)$/,
  "neighboursStayMapped or '*'",
);

const bounds = { atLeast: count.optional(), atMost: count.optional(), equals: count.optional() };
const atLeast = positive.default(1);

const bound = z.union([count, z.strictObject(bounds)]);
const e820Row = z.strictObject({ start: address, end: address, type: z.enum([...regionTypes, 'hole']) });

const forms = {
  violated: z.strictObject({ violated: invariantName, atLeast }),
  never: z.strictObject({ never: invariantOrAll }),
  fault: z.strictObject({
    fault: z.strictObject({
      device: sbdfField.optional(),
      addr: address.optional(),
      kind: z.enum(['read', 'write']).optional(),
      reason: count.max(255).optional(),
    }),
    atLeast,
  }),
  noFault: z.strictObject({ noFault: z.strictObject({ device: sbdfField.optional() }) }),
  guest: z.strictObject({ guest: name, is: z.enum(guestStates) }),
  dmesg: z.strictObject({ dmesg: regex, atLeast }),
  'toolstack-error': z.strictObject({ 'toolstack-error': regex, atLeast }),
  errno: z.strictObject({ errno: z.enum(errnoNames), of: operation, atLeast }),
  counter: z.strictObject({ counter: counterName, ...bounds }),
  e820: z.strictObject({ e820: z.strictObject({ guest: name, rows: z.array(e820Row).min(1) }) }),
  pod: z.strictObject({ pod: z.strictObject({ guest: name, entries: bound.optional(), cache: bound.optional() }) }),
  entry: z.strictObject({
    entry: z.strictObject({
      guest: name,
      gfn: frameNumber,
      p2m: z.enum(p2mTypeNames).optional(),
      iommu: z.enum(['absent', 'mapped']).optional(),
    }),
  }),
  greater: z.strictObject({
    greater: z.strictObject({ counter: counterName, thanTwin: name, factor: z.number().positive().default(1) }),
  }),
};

type Kind = keyof typeof forms;
type Written = { [K in Kind]: { check: K; form: z.output<(typeof forms)[K]> } }[Kind];
const kinds = Object.keys(forms) as Kind[]; // the table's own keys

/** The assertion at `path`; null after noting what is wrong with it. */
export function toAssertion(path: Path, source: YamlSource): Assertion | null {
  const value = source.at(path);
  const keys = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
  const check = keys.find((key): key is Kind => Object.hasOwn(forms, key));
  if (check === undefined) {
    const guess = keys.map((key) => closestName(key, kinds)).find((kind) => kind !== undefined);
    const found = keys[0] === undefined ? 'an assertion must be a map of keys' : `unknown assertion \`${keys[0]}\``;
    const hint = guess ? ` (did you mean \`${guess}\`?)` : '';
    const place = keys[0] === undefined ? path : [...path, keys[0]];
    source.problem(place, `${found}${hint}`, `assertions: ${kinds.join(', ')}`, true);
    return null;
  }
  const form = source.check(forms[check], path);
  if (form === undefined) return null;
  const line = source.line(path);
  const complaint = emptyBound({ check, form } as Written); // `form` is the output of the schema of `check`
  if (complaint) source.problem(path, complaint, 'add atLeast, atMost or equals');
  return { ...convert({ check, form } as Written), line }; // as above
}

/** As an assertion, but comparing twins makes no sense while one of them still runs. */
export function toCondition(path: Path, source: YamlSource): Assertion | null {
  const condition = toAssertion(path, source);
  if (condition?.check !== 'greater') return condition;
  source.problem(path, 'a step cannot wait for `greater`', 'move it to `expect`');
  return null;
}

const isEmpty = (b: Bound): boolean => b.atLeast === undefined && b.atMost === undefined && b.equals === undefined;

function emptyBound(written: Written): string | null {
  if (written.check === 'counter' && isEmpty(toBound(written.form))) return '`counter` says no number';
  if (written.check !== 'pod') return null;
  const { entries, cache } = written.form.pod;
  const given = [entries, cache].filter((b) => b !== undefined);
  return given.length === 0 || given.some((b) => isEmpty(toBound(b)))
    ? '`pod` says no number for entries or cache'
    : null;
}

function toBound(written: number | { [K in keyof Bound]: number | undefined }): Bound {
  if (typeof written === 'number') return { equals: written };
  return {
    ...(written.atLeast === undefined ? {} : { atLeast: written.atLeast }),
    ...(written.atMost === undefined ? {} : { atMost: written.atMost }),
    ...(written.equals === undefined ? {} : { equals: written.equals }),
  };
}

type Unplaced = Assertion extends infer A ? (A extends unknown ? Omit<A, 'line'> : never) : never;

function convert(written: Written): Unplaced {
  const { check } = written;
  switch (written.check) {
    case 'violated':
      return { check: 'violated', invariant: written.form.violated, atLeast: written.form.atLeast };
    case 'never':
      return { check: 'never', invariant: written.form.never };
    case 'fault': {
      const { device = null, addr = null, kind = null, reason = null } = written.form.fault;
      return { check: 'fault', device, addr, kind, reason, atLeast: written.form.atLeast };
    }
    case 'noFault':
      return { check: 'noFault', device: written.form.noFault.device ?? null };
    case 'guest':
      return { check: 'guest', ...written.form };
    case 'dmesg':
      return { check: 'dmesg', regex: written.form.dmesg, atLeast: written.form.atLeast };
    case 'toolstack-error':
      return { check: 'toolstack-error', regex: written.form['toolstack-error'], atLeast: written.form.atLeast };
    case 'errno':
      return { check: 'errno', ...written.form };
    case 'counter':
      return { check: 'counter', counter: written.form.counter, ...toBound(written.form) };
    case 'e820':
      return { check: 'e820', ...written.form.e820 };
    case 'pod': {
      const { guest, entries, cache } = written.form.pod;
      const asked = (b: typeof entries): Bound | null => (b === undefined ? null : toBound(b));
      return { check: 'pod', guest, entries: asked(entries), cache: asked(cache) };
    }
    case 'entry': {
      const { guest, gfn, p2m = null, iommu = null } = written.form.entry;
      return { check: 'entry', guest, gfn, p2m, iommu };
    }
    case 'greater':
      return { check: 'greater', ...written.form.greater };
    default: {
      const never: never = written;
      throw new Error(`convert: ${String(check)} ${String(never)}`);
    }
  }
}
