// What a zod schema refuses, in words an operator can act on. Owns the wording and the walk through a schema that finds the
// keys allowed at a place; knows nothing of files and positions.
import type { z } from 'zod';
import { closestName } from './operator-error.ts';

export interface Words {
  readonly message: string;
  readonly remedy: string;
}

/** `value` is what stands in the file at `path`. */
export function wordsFor(issue: z.core.$ZodIssue, path: readonly (string | number)[], value: unknown): Words {
  const name = nameOf(path);
  if (value === undefined && issue.code !== 'custom') {
    return { message: `missing key ${name}`, remedy: `add ${name}${optionsOf(issue)}` };
  }
  switch (issue.code) {
    case 'invalid_type':
      return { message: `${name} must be ${article(issue.expected)}, not ${show(value)}`, remedy: 'correct the value' };
    case 'invalid_value':
      return choice(name, value, issue.values.map(String));
    case 'invalid_union':
      return 'options' in issue && Array.isArray(issue.options)
        ? choice(name, value, issue.options.map(String))
        : { message: `${name} cannot be ${show(value)}`, remedy: 'correct the value' };
    case 'invalid_key':
      return { message: `${name} is not a good name`, remedy: issue.issues[0]?.message ?? 'rename it' };
    case 'too_small':
      return tooFar(name, value, 'least', issue.origin, issue.minimum);
    case 'too_big':
      return tooFar(name, value, 'most', issue.origin, issue.maximum);
    case 'custom':
      return {
        message: value === undefined ? `missing key ${name}` : `${name}: ${issue.message}, not ${show(value)}`,
        remedy: remedyOf(issue.params) ?? (value === undefined ? `add ${name}` : 'correct the value'),
      };
    default:
      return { message: `${name}: ${issue.message}`, remedy: 'correct the value' };
  }
}

function choice(name: string, value: unknown, options: readonly string[]): Words {
  const guess = typeof value === 'string' ? closestName(value, options) : undefined;
  const hint = guess ? ` (did you mean \`${guess}\`?)` : '';
  const onOff = typeof value === 'boolean' && options.includes('on');
  return {
    message: `${name} cannot be ${show(value)}${hint}`,
    remedy: onOff ? `write ${value ? 'on' : 'off'}` : `use one of: ${options.join(', ')}`,
  };
}

function tooFar(name: string, value: unknown, which: 'least' | 'most', origin: string, limit: number | bigint): Words {
  const what = origin === 'array' ? `${limit} item${limit === 1 ? '' : 's'}` : String(limit);
  const found = origin === 'array' ? '' : `, not ${show(value)}`;
  return {
    message: `${name} must ${origin === 'array' ? 'have' : 'be'} at ${which} ${what}${found}`,
    remedy: 'correct the value',
  };
}

function optionsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value') return `: one of ${issue.values.map(String).join(', ')}`;
  if (issue.code === 'invalid_union' && 'options' in issue && Array.isArray(issue.options)) {
    return `: one of ${issue.options.map(String).join(', ')}`;
  }
  return '';
}

/** A custom issue carries its remedy in `params`. */
function remedyOf(params: { readonly remedy?: unknown } | undefined): string | undefined {
  return typeof params?.remedy === 'string' ? params.remedy : undefined;
}

function nameOf(path: readonly (string | number)[]): string {
  if (path.length === 0) return 'the file';
  const last = path[path.length - 1];
  if (typeof last === 'string') return `\`${last}\``;
  const owner = path.findLast((key) => typeof key === 'string');
  return `item ${Number(last) + 1}${owner === undefined ? '' : ` of \`${owner}\``}`;
}

function article(expected: string): string {
  const words: Record<string, string> = {
    int: 'a whole number',
    number: 'a number',
    string: 'a text',
    boolean: 'true or false',
    array: 'a list',
    object: 'a map of keys',
    record: 'a map of keys',
  };
  return words[expected] ?? `a ${expected}`;
}

export function show(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map of keys';
  const text = typeof value === 'string' ? `"${value}"` : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** The keys the schema allows in the map at `path` below `data`. */
export function knownKeysAt(schema: z.core.$ZodType, data: unknown, path: readonly (string | number)[]): string[] {
  const def = (schema as z.ZodType)._zod.def as unknown as SchemaDef; // zod's own description of the schema
  const unwrapped = def.innerType ?? def.in;
  if (unwrapped) return knownKeysAt(unwrapped, data, path);
  if (def.options) {
    const mark = def.discriminator === undefined ? undefined : field(data, def.discriminator);
    const picked = def.options.filter((option) => marks(option, def.discriminator, mark));
    return [
      ...new Set((picked.length > 0 ? picked : def.options).flatMap((option) => knownKeysAt(option, data, path))),
    ];
  }
  const [key, ...rest] = path;
  if (key === undefined) return def.shape ? Object.keys(def.shape) : [];
  const next = def.element ?? def.valueType ?? def.shape?.[key];
  return next ? knownKeysAt(next, field(data, key), rest) : [];
}

interface SchemaDef {
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
  readonly element?: z.core.$ZodType;
  readonly valueType?: z.core.$ZodType;
  readonly innerType?: z.core.$ZodType;
  readonly in?: z.core.$ZodType;
  readonly options?: readonly z.core.$ZodType[];
  readonly discriminator?: string;
  readonly values?: readonly unknown[];
}

function marks(option: z.core.$ZodType, discriminator: string | undefined, mark: unknown): boolean {
  if (discriminator === undefined) return true;
  const shape = (option._zod.def as unknown as SchemaDef).shape; // as above
  const literal = shape?.[discriminator]?._zod.def as unknown as SchemaDef | undefined;
  return literal?.values?.includes(mark) ?? false;
}

const field = (data: unknown, key: string | number): unknown =>
  typeof data === 'object' && data !== null ? (data as Record<string | number, unknown>)[key] : undefined;
