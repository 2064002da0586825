// One YAML file with its positions: reads the text, turns it into plain data that remembers how numbers in hex were
// written, finds the line and column of any path, and gathers every problem before it throws. Owns no schema: callers bring
// zod schemas, and this file says what they refuse in words with a place and a remedy.
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml';
import type { z } from 'zod';
import { closestName, OperatorError, type Problem } from './operator-error.ts';
import { knownKeysAt, wordsFor } from './schema-words.ts';

export type Path = readonly (string | number)[];

/** A file with more nodes than this (aliases counted each time they are used) is refused. */
const MAX_NODES = 200_000;
const MAX_DEPTH = 60;

interface Mistake {
  readonly offset: number;
  readonly message: string;
  readonly remedy: string;
}

export class YamlSource {
  readonly file: string;
  /** Plain data; a number written `0x…` stays the text it was. */
  readonly data: unknown;
  private readonly document: Document<Node>;
  private readonly lines = new LineCounter();
  private readonly problems: Problem[] = [];
  /** Paths of keys that were written wrongly, as JSON. */
  private readonly misspelt = new Set<string>();
  private nodes = 0;

  /** Throws OperatorError if the text is not one YAML document. */
  constructor(text: string, file: string) {
    this.file = file;
    const parsed = parseDocument(text, { lineCounter: this.lines, prettyErrors: false });
    this.document = parsed as unknown as Document<Node>; // without the Parsed marks, which nothing here needs
    for (const error of parsed.errors) {
      this.report({
        offset: error.pos[0],
        message: `not valid YAML: ${error.message}`,
        remedy:
          error.code === 'DUPLICATE_KEY'
            ? 'keep one of the two keys'
            : 'check indentation, quotes and brackets on and above this line',
      });
    }
    this.throwIfAny();
    this.data = this.toPlain(this.document.contents, 0, new Set());
    this.throwIfAny();
  }

  /** Data that stands under `path`; undefined where there is none. */
  at(path: Path): unknown {
    let value: unknown = this.data;
    for (const key of path) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
      value = (value as Record<string | number, unknown>)[key]; // an object, and the key is its own
    }
    return value;
  }

  /** 1-based line of the value under `path`, or of what would hold it. */
  line(path: Path): number {
    return this.place(this.offsetOf(path, false)).line;
  }

  /** Line of the key that `path` ends in. */
  keyLine(path: Path): number {
    return this.place(this.offsetOf(path, true)).line;
  }

  /** Line on which the *text* of the scalar under `path` begins: below its key for a block (`|`). */
  textLine(path: Path): number {
    const node = this.nodeAt(path);
    const block = isScalar(node) && (node.type === 'BLOCK_LITERAL' || node.type === 'BLOCK_FOLDED');
    return this.line(path) + (block ? 1 : 0);
  }

  /** Notes a problem at the value under `path`, or at its key. */
  problem(path: Path, message: string, remedy: string, atKey = false): void {
    this.report({ offset: this.offsetOf(path, atKey), message, remedy });
  }

  /** The parsed value, or undefined after noting everything the schema refuses. */
  check<S extends z.ZodType>(schema: S, path: Path): z.output<S> | undefined {
    const result = schema.safeParse(this.at(path));
    if (result.success) return result.data;
    // Unknown keys first: a missing key that one of them was meant to be is not told twice.
    const { issues } = result.error;
    for (const issue of issues) if (issue.code === 'unrecognized_keys') this.issue(schema, path, issue);
    for (const issue of issues) if (issue.code !== 'unrecognized_keys') this.issue(schema, path, issue);
    return undefined;
  }

  throwIfAny(): void {
    const [first, ...rest] = this.problems.toSorted(
      (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
    );
    if (first) throw new OperatorError([first, ...rest]);
  }

  private issue(schema: z.ZodType, base: Path, issue: z.core.$ZodIssue): void {
    const inner = issue.path.filter((key) => typeof key !== 'symbol');
    const path = [...base, ...inner];
    if (issue.code === 'unrecognized_keys') {
      const known = knownKeysAt(schema, this.at(base), inner);
      for (const key of issue.keys) {
        const guess = closestName(key, known);
        if (guess !== undefined) this.misspelt.add(JSON.stringify([...path, guess]));
        this.problem(
          [...path, key],
          `unknown key \`${key}\`${guess ? ` (did you mean \`${guess}\`?)` : ''}`,
          known.length > 0 ? `keys allowed here: ${known.join(', ')}` : 'remove it',
          true,
        );
      }
      return;
    }
    if (issue.code === 'invalid_union' && issue.errors.length > 0) {
      // The branch that got furthest is the one that was meant.
      const branch = issue.errors.toSorted((a, b) => depthOf(b) - depthOf(a))[0] ?? [];
      for (const nested of branch) this.issue(schema, base, { ...nested, path: [...issue.path, ...nested.path] });
      return;
    }
    const value = this.at(path);
    if (value === undefined && this.misspelt.has(JSON.stringify(path))) return;
    const { message, remedy } = wordsFor(issue, path, value);
    this.problem(path, message, remedy);
  }

  private report(mistake: Mistake): void {
    const { line, column } = this.place(mistake.offset);
    const { message, remedy } = mistake;
    if (this.problems.some((p) => p.line === line && p.column === column && p.message === message)) return;
    this.problems.push({ file: this.file, line, column, message, remedy });
  }

  private place(offset: number): { line: number; column: number } {
    const { line, col } = this.lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  private offsetOf(path: Path, atKey: boolean): number {
    let node: unknown = this.document.contents;
    let offset = startOf(node) ?? 0;
    for (const [depth, key] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.document);
      if (isMap(node)) {
        const pair = node.items.find((item) => keyText(item) === key);
        if (!pair) return offset;
        const last = depth === path.length - 1;
        offset = (last && !atKey ? startOf(pair.value) : undefined) ?? startOf(pair.key) ?? offset;
        node = pair.value;
      } else if (isSeq(node) && typeof key === 'number') {
        const item = node.items[key];
        if (item === undefined) return offset;
        node = item;
        offset = startOf(node) ?? offset;
      } else return offset;
    }
    return offset;
  }

  private nodeAt(path: Path): unknown {
    let node: unknown = this.document.contents;
    for (const key of path) {
      if (isAlias(node)) node = node.resolve(this.document);
      if (isMap(node)) node = node.items.find((item) => keyText(item) === key)?.value;
      else if (isSeq(node) && typeof key === 'number') node = node.items[key];
      else return undefined;
    }
    return isAlias(node) ? node.resolve(this.document) : node;
  }

  private toPlain(node: unknown, depth: number, open: ReadonlySet<unknown>): unknown {
    if (++this.nodes > MAX_NODES || depth > MAX_DEPTH || open.has(node)) {
      if (this.problems.length === 0) {
        this.report({
          offset: startOf(node) ?? 0,
          message: 'too deeply nested, too large, or an alias that contains itself',
          remedy: 'write the values out instead of using aliases',
        });
      }
      return null;
    }
    if (isAlias(node)) {
      const target = node.resolve(this.document);
      if (target === undefined) {
        const remedy = 'define the anchor above its use';
        this.report({ offset: startOf(node) ?? 0, message: `unknown alias \`*${node.source}\``, remedy });
      }
      return this.toPlain(target, depth + 1, open);
    }
    if (isScalar(node)) return plainScalar(node.value, node.source);
    const inside = new Set(open).add(node);
    if (isSeq(node)) return node.items.map((item) => this.toPlain(item, depth + 1, inside));
    if (isMap(node)) return this.mapToPlain(node.items, depth, inside);
    return null;
  }

  private mapToPlain(items: readonly Pair[], depth: number, inside: ReadonlySet<unknown>): unknown {
    const plain: Record<string, unknown> = {};
    for (const item of items) {
      const key = keyText(item);
      if (key === undefined || key === '__proto__') {
        const offset = startOf(item.key) ?? 0;
        this.report({
          offset,
          message: 'a key must be a plain word',
          remedy: 'name the key with letters, digits, - or _',
        });
        continue;
      }
      plain[key] = this.toPlain(item.value, depth + 1, inside);
    }
    return plain;
  }
}

/** How far into the data a branch's issues lie; an unknown key lies inside the map that holds it. */
const depthOf = (issues: readonly z.core.$ZodIssue[]): number =>
  Math.max(0, ...issues.map((i) => i.path.length + (i.code === 'unrecognized_keys' ? 1 : 0)));

function plainScalar(value: unknown, source: string | undefined): unknown {
  if (typeof value === 'number' && source !== undefined && /^0x/i.test(source)) return source;
  if (typeof value === 'bigint') return String(value);
  return value;
}

function keyText(item: Pair): string | undefined {
  const key = item.key;
  if (typeof key === 'string') return key;
  if (!isScalar(key)) return undefined;
  return typeof key.value === 'string' || typeof key.value === 'number' ? String(key.value) : undefined;
}

function startOf(node: unknown): number | undefined {
  if (!(isScalar(node) || isMap(node) || isSeq(node) || isAlias(node))) return undefined;
  return node.range?.[0];
}
