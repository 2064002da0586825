// DESIGN 10, rows 1 and 2, as ratios measured in one run against C (bench/walk.c):
//   the IOTLB-miss walk, random, over 64 GiB mapped by 4K, in batches of 1000
//   mapping 4K pages in order: table allocation and leaf stores only; the whole of iommuMap is reported beside it
// Runs alternate with the yardstick's and medians are compared. Where there is no C compiler the times alone are reported.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Host } from '#model/host';
import { FlushFlags, IOMMUF_readable, IOMMUF_writable } from '#model/iommu/flags';
import { iommuMap } from '#model/iommu/iommu';
import { linkTable } from '#model/iommu/vtd/entry';
import { storeLeaves } from '#model/iommu/vtd/split';
import { walkStraight } from '#model/iommu/walk';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '#model/shared-memory/table-pages';
import { bareHost } from './bare-host.ts';
import { median, printRow, spreadOf } from './row.ts';

const RUNS = 7;
const PAGES = 2 ** 24;
const BATCH = 1000;
const LOOKUPS = 1_000_000;
const MAP_TABLES = 8192;
const RW = 3;

const nowNs = (): number => Number(process.hrtime.bigint());
const round = (value: number): number => Math.round(value * 100) / 100;

/** Nanoseconds of one run: ours, the yardstick's. */
type Run = readonly [number, number | null];

function report(number: number, name: string, hold: number | null, runs: readonly Run[]): void {
  const ns = round(median(runs.map(([ours]) => ours)));
  const yard = runs.map(([, theirs]) => theirs).filter((value) => value !== null);
  if (yard.length === 0) {
    const detail = { ns, note: 'no C compiler (cc): no yardstick' };
    printRow({
      row: number,
      name,
      value: 0,
      unit: 'ratio',
      hold: null,
      bound: 'reported',
      runs: runs.length,
      spread: [0, 0],
      detail,
    });
    return;
  }
  const yardstickNs = round(median(yard));
  const [low, high] = spreadOf(runs.map(([ours]) => ours / yardstickNs));
  printRow({
    row: number,
    name,
    value: round(ns / yardstickNs),
    unit: 'ratio',
    hold,
    bound: hold === null ? 'reported' : 'at most',
    runs: runs.length,
    spread: [round(low), round(high)],
    detail: { ns, yardstickNs },
  });
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

function benchWalk(directory: string, c: ReturnType<typeof compile>): void {
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
  report(1, 'IOTLB-miss walk, random, 64 GiB at 4K, batches of 1000', 1.4, runs);
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

function benchMap(c: ReturnType<typeof compile>): void {
  mapOnce();
  wholeMapOnce();
  const map: Run[] = [];
  const whole: Run[] = [];
  for (let i = 0; i < RUNS; i++) {
    const theirs = c ? c('map', String(MAP_TABLES)) : null;
    map.push([mapOnce(), theirs]);
    whole.push([wholeMapOnce(), theirs]);
  }
  report(2, 'map 4K pages in order: table allocation and leaf stores', 1.2, map);
  report(2, 'map 4K pages in order: the whole of iommuMap', null, whole);
}

const directory = mkdtempSync(join(tmpdir(), 'hostloom-bench-'));
try {
  const c = compile(directory);
  benchWalk(directory, c);
  benchMap(c);
} finally {
  rmSync(directory, { recursive: true });
}
