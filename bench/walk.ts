// DESIGN 10, rows 1 and 2, as ratios measured in one run against C (bench/walk.c):
//   the IOTLB-miss walk, random, over 64 GiB mapped by 4K, in batches of 1000
//   mapping 4K pages in order: table allocation and leaf stores only; the whole of iommuMap is reported beside it
// Prints one JSON array of {name, ratio, hold, ns, yardstickNs, runs}; ratio is null where there is no C compiler.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bareHost } from './bare-host.ts';
import { FlushFlags, IOMMUF_readable, IOMMUF_writable } from '#model/iommu/flags';
import { iommuMap } from '#model/iommu/iommu';
import { linkTable } from '#model/iommu/vtd/entry';
import { storeLeaves } from '#model/iommu/vtd/split';
import { walkStraight } from '#model/iommu/walk';
import type { Host } from '#model/host';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '#model/shared-memory/table-pages';

const RUNS = 7;
const PAGES = 2 ** 24;
const BATCH = 1000;
const LOOKUPS = 1_000_000;
const MAP_TABLES = 8192;
const RW = 3;

export interface BenchRow {
  readonly name: string;
  readonly ratio: number | null;
  /** What the ratio must not exceed; null: reported only. */
  readonly hold: number | null;
  readonly ns: number;
  readonly yardstickNs: number | null;
  /** Nanoseconds of each run: ours, yardstick. */
  readonly runs: readonly (readonly [number, number | null])[];
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] as number; // never empty
const nowNs = (): number => Number(process.hrtime.bigint());
const round = (value: number): number => Math.round(value * 100) / 100;

function row(name: string, hold: number | null, runs: readonly (readonly [number, number | null])[]): BenchRow {
  const ns = median(runs.map(([ours]) => ours));
  const yard = runs.map(([, theirs]) => theirs).filter((value) => value !== null);
  const yardstickNs = yard.length > 0 ? median(yard) : null;
  const ratio = yardstickNs === null ? null : round(ns / yardstickNs);
  return { name, ratio, hold, ns: round(ns), yardstickNs: yardstickNs === null ? null : round(yardstickNs), runs };
}

/** The C program, or null without a compiler. */
function compile(directory: string): ((...args: string[]) => number) | null {
  const program = join(directory, 'walk');
  const source = new URL('./walk.c', import.meta.url).pathname;
  if (spawnSync('cc', ['-O2', '-o', program, source], { stdio: 'ignore' }).status !== 0) return null;
  return (...args) => Number(spawnSync(program, args, { encoding: 'utf8' }).stdout);
}

/** A table of 512 leaves and its link, as a split makes them: leaves and markers in one pass, then one store. */
function mapTable(h: Host, parent: number, firstFrame: number): void {
  const table = h.tables.alloc(tableUse.iommu, 0, 0) as TableIndex; // the arena is sized for all
  storeLeaves(h.tables.slots, table * SLOTS_PER_TABLE, firstFrame * 65536 + RW, 65536);
  linkTable(h, parent, table);
}

function build64GiB(h: Host): number {
  const fresh = (): number => h.tables.alloc(tableUse.iommu, 0, 0);
  const root = fresh();
  const directory = fresh();
  linkTable(h, root * SLOTS_PER_TABLE, directory as TableIndex);
  for (let g = 0; g < PAGES / 2 ** 18; g++) {
    const middle = fresh();
    for (let m = 0; m < 512; m++) mapTable(h, middle * SLOTS_PER_TABLE + m, g * 2 ** 18 + m * 512);
    linkTable(h, directory * SLOTS_PER_TABLE + g, middle as TableIndex);
  }
  return root;
}

function walkBatch(h: Host, root: number, dfns: Uint32Array, from: number): number {
  const { slots } = h.tables;
  let sum = 0;
  for (let i = from; i < from + BATCH; i++) sum += walkStraight(slots, root, dfns[i] as number, 2);
  return sum;
}

function walkOnce(h: Host, root: number, dfns: Uint32Array): number {
  const start = nowNs();
  let sum = 0;
  for (let from = 0; from < LOOKUPS; from += BATCH) sum += walkBatch(h, root, dfns, from);
  const ns = (nowNs() - start) / LOOKUPS;
  if (sum < 0) throw new Error('a walk faulted');
  return ns;
}

function benchWalk(directory: string, c: ReturnType<typeof compile>): BenchRow {
  const h = bareHost(PAGES / 512 + 256).h;
  const root = build64GiB(h);
  const dfns = new Uint32Array(LOOKUPS);
  let random = 12345;
  for (let i = 0; i < LOOKUPS; i++) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    dfns[i] = random >>> 8;
  }
  const file = join(directory, 'dfns');
  writeFileSync(file, dfns);
  walkOnce(h, root, dfns);
  const runs = Array.from({ length: RUNS }, () => [walkOnce(h, root, dfns), c ? c('walk', file) : null] as const);
  return row('IOTLB-miss walk, random, 64 GiB at 4K', 1.4, runs);
}

function mapOnce(): number {
  const { h } = bareHost(MAP_TABLES + 16);
  const directory = h.tables.alloc(tableUse.iommu, 0, 0);
  const start = nowNs();
  for (let t = 0; t < MAP_TABLES; t++) mapTable(h, directory * SLOTS_PER_TABLE + (t & 511), t * 512);
  return (nowNs() - start) / (MAP_TABLES * SLOTS_PER_TABLE);
}

function wholeMapOnce(): number {
  const { h, d } = bareHost(MAP_TABLES);
  const pages = (MAP_TABLES / 8) * SLOTS_PER_TABLE;
  const flush = new FlushFlags();
  const start = nowNs();
  for (let g = 0; g < pages; g += SLOTS_PER_TABLE) {
    iommuMap(h, d, g, 2 ** 24 + g, SLOTS_PER_TABLE, IOMMUF_readable | IOMMUF_writable, flush);
  }
  return (nowNs() - start) / pages;
}

export function benchTables(): BenchRow[] {
  const directory = mkdtempSync(join(tmpdir(), 'hostloom-bench-'));
  try {
    const c = compile(directory);
    const walk = benchWalk(directory, c);
    mapOnce();
    wholeMapOnce();
    const map: [number, number | null][] = [];
    const whole: [number, number | null][] = [];
    for (let i = 0; i < RUNS; i++) {
      const theirs = c ? c('map', String(MAP_TABLES)) : null;
      map.push([mapOnce(), theirs]);
      whole.push([wholeMapOnce(), theirs]);
    }
    return [
      walk,
      row('map 4K pages in order: table allocation and leaf stores', 1.2, map),
      row('map 4K pages in order: the whole of iommuMap', null, whole),
    ];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  process.stdout.write(`${JSON.stringify(benchTables(), null, 2)}\n`);
}
