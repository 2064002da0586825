// Which cells are measured, and what is told of them: the tables, the chart and the answer in words, all from the figures of this run.
import { cpus } from 'node:os';
import { stepCostNs } from '#explore/schedulers/step-costs';
import { formatLockProfile, type LockProfile } from '#formats/lockprof';
import { stepKind } from '#model/shared-memory/step';
import type { Experiment } from '#report/experiment-page';
import type { LineChart } from '#report/report/line-chart';
import { duration } from '#report/report/markup';
import type { ReportTable } from '#report/verdict';
import { MAX_PAGES } from './layout.ts';
import type { Cell, CellSpec, Measuring } from './measure.ts';
import type { Hold } from './operations.ts';
import { PACE_NS } from './probe.ts';

const OPERATIONS = ['map', 'translate', 'revoke'] as const;
const HOLDS: readonly Hold[] = ['1', '64', '512', '4096', 'whole'];
const OTHERS = [1, 2, 4, 8] as const;
const SIZES = [1, 512, 16_384, 262_144, MAX_PAGES] as const;
/** Pages of the operations that are cut into batches: 64 MiB. */
const SIZE = 16_384;
const VIRTUAL_MS = 12;
const LIVE_MS = 200;

const us = (ns: number): string => duration(ns / 1000);
const sizeName = (pages: number): string => {
  const kib = pages * 4;
  return kib >= 2 ** 20 ? `${kib / 2 ** 20} GiB` : kib >= 1024 ? `${kib / 1024} MiB` : `${kib} KiB`;
};
const holdName = (hold: Hold): string => (hold === 'whole' ? 'whole operation' : `${hold}`);
const number = (n: number): string => Math.round(n).toLocaleString('en-US');
const ratio = (n: number): string => `${n.toFixed(2)}×`;

export interface Measured {
  readonly alone: readonly Cell[];
  readonly virtual: readonly Cell[];
  readonly sizes: readonly Cell[];
  readonly large: readonly Cell[];
  readonly live: readonly Cell[];
  readonly undisturbed: ReadonlyMap<number, number>;
  readonly locks: readonly { readonly hold: Hold; readonly profile: LockProfile }[];
}

type Say = (what: string) => void;

const cellsOf = (m: Measuring, specs: readonly CellSpec[]): Cell[] => specs.flatMap((s) => m.virtually(s, VIRTUAL_MS));
const small = { order: 0, pattern: 'contiguous' } as const;
/** `map` measures `revoke` as well. */
const both = ['map', 'translate'] as const;

export async function measureAll(m: Measuring, say: Say): Promise<Measured> {
  say('one vCPU alone');
  const alone = ([0, 9] as const).flatMap((order) =>
    (['contiguous', 'scattered'] as const).flatMap((pattern) =>
      SIZES.filter((pages) => pages >= 2 ** order).flatMap((pages) => {
        const spec = { hold: 'whole', order, extents: pages / 2 ** order, pattern } as const;
        const rounds = pages >= 262_144 ? 1 : pages >= 16_384 ? 3 : 50;
        return both.flatMap((op) => m.alone({ ...spec, op }, rounds));
      }),
    ),
  );
  await m.start();
  say('in virtual time, by batch and by number of vCPUs');
  const undisturbed = new Map(OTHERS.map((others) => [others, m.undisturbed(others, VIRTUAL_MS)]));
  const locks: Measured['locks'][number][] = [];
  const virtual: Cell[] = [];
  for (const others of OTHERS) {
    for (const hold of HOLDS) {
      for (const op of both) {
        virtual.push(...m.virtually({ op, hold, ...small, extents: SIZE, others }, VIRTUAL_MS));
        const told = others === 8 && op === 'map' && (hold === 'whole' || hold === '512');
        if (told) locks.push({ hold, profile: { rows: m.lockProfile(), profilingNs: m.virtualNs } });
      }
    }
  }
  say('in virtual time, by size');
  const sizes = cellsOf(
    m,
    SIZES.flatMap((extents) => both.map((op) => ({ op, hold: 'whole', ...small, extents, others: 4 }) as const)),
  );
  const large = cellsOf(
    m,
    (['64', '512', 'whole'] as const).flatMap((hold) =>
      both.map((op) => ({ op, hold, order: 9, pattern: 'contiguous', extents: MAX_PAGES / 512, others: 4 }) as const),
    ),
  );
  say('on the CPUs of this machine');
  const live = ([1, 8] as const).flatMap((others) =>
    (['64', '512', 'whole'] as const).flatMap((hold) =>
      both.flatMap((op) => m.live({ op, hold, ...small, extents: SIZE, others }, LIVE_MS)),
    ),
  );
  return { alone, virtual, sizes, large, live, undisturbed, locks };
}

const find = (cells: readonly Cell[], op: Cell['op'], hold: Hold, others: number): Cell => {
  const found = cells.find((c) => c.op === op && c.hold === hold && c.others === others);
  if (!found) throw new Error(`${op}, ${hold}, ${others} was not measured`);
  return found;
};

/** The largest batch with which the others' p99 stays below the bound for this operation, beside the most vCPUs. */
function largestWithin(measured: Measured, op: Cell['op'], boundNs: number): Hold | null {
  const fits = HOLDS.filter((hold) => find(measured.virtual, op, hold, 8).wait.virtual.p99 <= boundNs);
  return fits.at(-1) ?? null;
}

/** What one extent costs under the lock, in virtual nanoseconds, from the longest measured hold. */
function perExtentNs(measured: Measured, op: Cell['op']): number {
  const longest = measured.sizes.findLast((c) => c.op === op);
  return longest ? longest.hold_.virtual.max / longest.extents : 0;
}

function answer(measured: Measured, boundNs: number): Pick<Experiment, 'verdict' | 'answer'> {
  const { sizes, virtual } = measured;
  const of = (pages: number) => sizes.filter((c) => c.extents === pages);
  const worst = (cells: readonly Cell[], by: (c: Cell) => number): Cell =>
    cells.reduce((a, b) => (by(b) > by(a) ? b : a));
  const stall = (c: Cell): number => c.wait.virtual.max;
  const one = worst(of(512), stall);
  const top = worst(of(MAX_PAGES), stall);
  const within = OPERATIONS.map((op) => [op, largestWithin(measured, op, boundNs)] as const);
  const batches = within.map(([, hold]) => (hold === 'whole' ? SIZE : Number(hold ?? 0)));
  const batch = Math.min(...batches);
  const chosen = HOLDS.find((h) => h !== 'whole' && Number(h) === batch) ?? null;
  const slow = (hold: Hold): readonly [Cell['op'], number] =>
    OPERATIONS.map(
      (op) =>
        [op, find(virtual, op, 'whole', 8).extentsPerSecond / find(virtual, op, hold, 8).extentsPerSecond] as const,
    ).reduce((a, b) => (b[1] > a[1] ? b : a));
  const slowed = (hold: Hold): string => {
    const [op, by] = slow(hold);
    return `${ratio(by)} (${op}${op === 'revoke' ? ', of which each batch ends with a flush of its own' : ''})`;
  };
  const gains = OPERATIONS.map((op) => {
    const [by4k, by2m] = [of(MAX_PAGES).find((c) => c.op === op), find(measured.large, op, 'whole', 4)];
    return [op, by2m.hold_.virtual.max, (by4k?.hold_.virtual.max ?? 0) / by2m.hold_.virtual.max] as const;
  });
  const least = gains.reduce((a, b) => (b[2] < a[2] ? b : a));
  const smallFits = stall(one) <= boundNs;
  const wholeFits = stall(top) <= boundNs;
  const verdict = wholeFits
    ? 'Yes, at every size measured.'
    : smallFits
      ? `For an operation of bounded size, yes; for one whose size the caller chooses, no.`
      : 'No, not even for 2 MiB by 4K pages.';
  const why = [
    `The bound asked for here: while such operations go on one after the other, 99 of 100 requests of other vCPUs for the lock wait less than ${us(boundNs)}.`,
    `The hold grows with the operation, and whoever needs the lock waits for all of it: ${OPERATIONS.map((op) => `${op} ${perExtentNs(measured, op).toFixed(0)} ns`).join(', ')} a page. The longest stall of another vCPU is ${us(stall(one))} beside operations of ${sizeName(512)} (${one.op}), and ${us(stall(top))} beside operations of ${sizeName(MAX_PAGES)} (${top.op}), during which the others come to ${(100 * ratioOfOthers(measured, top)).toFixed(0)}% of what they do undisturbed.`,
    chosen
      ? `By batches the bound holds up to ${within.map(([op, hold]) => `${hold === 'whole' ? `whole operations of ${sizeName(SIZE)}` : `${hold} pages`} for ${op}`).join(', ')}: so up to ${batch} for all of them. Batches of ${chosen} slow the operation itself by ${slowed(chosen)} at most beside 8 other vCPUs; batches of one by ${slowed('1')}.`
      : `No batch measured keeps that bound for all three operations.`,
    `Superpages shorten the hold where the memory allows them: ${sizeName(MAX_PAGES)} by 2M is one hold of ${gains.map(([op, ns, by]) => `${us(ns)} (${op}, ${by.toFixed(0)} times shorter than by 4K)`).join(', ')}. Least is gained by ${least[0]}${least[0] === 'map' ? ', since each of the 512 frames of a superpage is referenced on its own' : ''}.`,
  ];
  return { verdict, answer: why };
}

const ratioOfOthers = (measured: Measured, c: Cell): number =>
  c.othersPerSecond / (measured.undisturbed.get(c.others) ?? Number.NaN);

const waitHead = ['p50', 'p99', 'p99.9', 'longest stall', 'steps waited, p99'];
const waitCells = (c: Cell): string[] => [
  us(c.wait.virtual.p50),
  us(c.wait.virtual.p99),
  us(c.wait.virtual.p999),
  us(c.wait.virtual.max),
  number(c.wait.steps.p99),
];

function aloneTable({ alone }: Measured): ReportTable {
  return {
    caption: 'One hold of the lock for the whole operation, nobody else there: this machine’s clock, and steps',
    head: ['operation', 'pages', 'size', 'contiguous', 'scattered', 'ns an extent', 'steps under the lock'],
    rows: alone
      .filter(({ pattern }) => pattern === 'contiguous')
      .map((c) => {
        const other = alone.find(
          (o) => o.pattern === 'scattered' && o.op === c.op && o.order === c.order && o.extents === c.extents,
        );
        const ns = c.hold_.wall.p50;
        const pages = c.extents * 2 ** c.order;
        return [
          c.op,
          c.order === 9 ? '2M' : '4K',
          sizeName(pages),
          us(ns),
          other ? us(other.hold_.wall.p50) : '–',
          number(ns / c.extents),
          number(c.hold_.steps.p50),
        ];
      }),
  };
}

function batchTable(measured: Measured, others: number): ReportTable {
  return {
    caption: `${sizeName(SIZE)} by 4K pages, ${others} other ${others === 1 ? 'vCPU' : 'vCPUs'}: how long the others wait for the lock`,
    head: ['operation', 'pages a hold', 'hold, p99', ...waitHead, 'others’ throughput', 'operation’s throughput'],
    rows: OPERATIONS.flatMap((op) =>
      HOLDS.map((hold) => {
        const c = find(measured.virtual, op, hold, others);
        const whole = find(measured.virtual, op, 'whole', others);
        return [
          op,
          holdName(hold),
          us(c.hold_.virtual.p99),
          ...waitCells(c),
          `${(100 * ratioOfOthers(measured, c)).toFixed(0)}%`,
          ratio(c.extentsPerSecond / whole.extentsPerSecond),
        ];
      }),
    ),
  };
}

function sizeTable(measured: Measured): ReportTable {
  return {
    caption: 'Whole operations by 4K pages, 4 other vCPUs',
    head: ['operation', 'size', 'hold', ...waitHead, 'others’ throughput'],
    rows: OPERATIONS.flatMap((op) =>
      measured.sizes
        .filter((c) => c.op === op)
        .map((c) => [
          op,
          sizeName(c.extents),
          us(c.hold_.virtual.p50),
          ...waitCells(c),
          `${(100 * ratioOfOthers(measured, c)).toFixed(0)}%`,
        ]),
    ),
  };
}

function largeTable(measured: Measured): ReportTable {
  return {
    caption: `${sizeName(MAX_PAGES)} by 2M pages (${MAX_PAGES / 512} extents), 4 other vCPUs`,
    head: ['operation', 'extents a hold', 'hold, p99', ...waitHead],
    rows: OPERATIONS.flatMap((op) =>
      measured.large
        .filter((c) => c.op === op)
        .map((c) => [op, holdName(c.hold), us(c.hold_.virtual.p99), ...waitCells(c)]),
    ),
  };
}

function liveTable({ live }: Measured): ReportTable {
  return {
    caption: `${sizeName(SIZE)} by 4K pages, on ${cpus().length} CPUs shared by all the threads (and with whatever else runs here)`,
    head: [
      'operation',
      'pages a hold',
      'other vCPUs',
      'hold, p50',
      'hold, p99',
      'wait, p50',
      'wait, p99',
      'longest stall',
      'steps waited, p99',
      'others’ operations/s',
      'operation’s pages/s',
    ],
    rows: OPERATIONS.flatMap((op) =>
      live
        .filter((c) => c.op === op)
        .map((c) => [
          op,
          holdName(c.hold),
          `${c.others}`,
          us(c.hold_.wall.p50),
          us(c.hold_.wall.p99),
          us(c.wait.wall.p50),
          us(c.wait.wall.p99),
          us(c.wait.wall.max),
          number(c.wait.steps.p99),
          number(c.othersPerSecond),
          number(c.extentsPerSecond),
        ]),
    ),
  };
}

function batchChart(measured: Measured, boundNs: number): LineChart {
  const x = (hold: Hold): number => (hold === 'whole' ? SIZE : Number(hold));
  return {
    title: 'How long others wait for the p2m lock, p99, by pages under one hold (8 other vCPUs)',
    xAxis: `pages of 4K under one hold, of operations of ${sizeName(SIZE)}`,
    yAxis: 'p99 of the wait, µs (virtual time)',
    xNames: { [SIZE]: 'whole' },
    bound: { y: boundNs / 1000, name: `bound ${us(boundNs)}` },
    series: OPERATIONS.map((op) => ({
      name: op,
      // Below the resolution of a chart in µs: shown at its foot.
      points: HOLDS.map((hold) => ({
        x: x(hold),
        y: Math.max(0.01, find(measured.virtual, op, hold, 8).wait.virtual.p99 / 1000),
      })),
    })),
  };
}

function sizeChart(measured: Measured): LineChart {
  return {
    title: 'Longest stall of another vCPU, by size of an operation under one hold (4 other vCPUs)',
    xAxis: 'size of the operation',
    yAxis: 'longest stall, µs (virtual time)',
    xNames: Object.fromEntries(SIZES.map((pages) => [pages, sizeName(pages)])),
    series: OPERATIONS.map((op) => ({
      name: op,
      points: measured.sizes
        .filter((c) => c.op === op)
        .map((c) => ({ x: c.extents, y: Math.max(0.01, c.wait.virtual.max / 1000) })),
    })),
  };
}

export function experimentOf(
  measured: Measured,
  boundNs: number,
  command: string,
  facts: readonly string[],
): Experiment {
  return {
    name: 'lock-contention',
    question: 'Is taking the p2m lock for the entire operation a reasonable approach?',
    ...answer(measured, boundNs),
    command,
    facts,
    sections: [
      {
        heading: 'Waits by batch',
        paragraphs: [
          `One vCPU of dom0 maps memory into a guest (\`lend\`), translates gfns of the guest (entry looked up, frame referenced) or takes mapped memory back (\`revoke\`), without a pause. Other vCPUs of the guest balloon a page out, fault on the hole, balloon one in and have two frames translated (\`gnttab_copy\`), with ${us(PACE_NS)} of their own work after each. All of them are threads that run the model’s code on one shared host.`,
          `Times are virtual: each step of the model has a cost (\`docs/timed-costs.md\`: ${(['ptWrite', 'p2mRead', 'refTake', 'cpuFlush'] as const).map((kind) => `${kind} ${us(stepCostNs(stepKind[kind]))}`).join(', ')} …), each vCPU a CPU of its own, and waiters get the lock in the order in which they came. So the figures are the same on every machine; they are as good as the table, and a conclusion that turns on a factor of two is not one they can give. A wait counts for all requests that would have been made meanwhile (no co-ordinated omission).`,
        ],
        charts: [{ file: 'lock-contention-batch.svg', chart: batchChart(measured, boundNs) }],
        tables: [8, 4, 2, 1].map((others) => batchTable(measured, others)),
      },
      {
        heading: 'Waits by size',
        paragraphs: [],
        charts: [{ file: 'lock-contention-size.svg', chart: sizeChart(measured) }],
        tables: [sizeTable(measured), largeTable(measured)],
      },
      {
        heading: 'By the clock of this machine',
        paragraphs: [
          'The same code measured, not modelled. Scattered means that frames come in an order of chance, so that nearly every access misses the cache.',
          'With more threads than CPUs a waiting thread also waits until the operating system runs it, and an operation that lets the lock go between batches waits for those it lets in; so waits here say more of this machine than of the lock. Steps waited (what others did under the lock meanwhile) are free of that.',
        ],
        tables: [aloneTable(measured), liveTable(measured)],
      },
      ...measured.locks.map(({ hold, profile }) => ({
        heading: `xenlockprof, ${hold === 'whole' ? 'whole operations' : `batches of ${hold}`}`,
        paragraphs: [
          `Mapping and revoking ${sizeName(SIZE)} beside 8 other vCPUs, in virtual time. Holds are sampled, waits are not.`,
        ],
        tables: [],
        locks: { caption: 'lock profile', rows: profile.rows, text: formatLockProfile(profile) },
      })),
    ],
  };
}
