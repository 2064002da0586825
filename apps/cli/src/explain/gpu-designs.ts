// The designs A, B and C of a mediated GPU side by side, for runs that play more than one of them: the model's own comparison on the
// run's host, counted there and not here. It runs no host beside the twins: it is made when they have ended.
import { hostConfig } from '#formats/host-config';
import { resolvePolicies } from '#formats/policies';
import type { Twin } from '#formats/scenario';
import { compareDesigns, type DesignCost, type DesignRow } from '#model/gpu/design-comparison';
import type { Explanation, ReportTable, TwinResult } from '#report/verdict';

const SPEC = { guests: 2, guestPages: 2048, dom0Pages: 16_384, shadowed: 200 } as const;
/** Bus frames for all that these guests map. */
const BUS_FRAMES = 4096;
const FRAMES_PER_MIB = 256;

const count = (n: number): string =>
  n > 0 && n < 10 ? `${Number(n.toPrecision(2))}` : Math.round(n).toLocaleString('en-US');

const mediatedBy = ({ dom0 }: Twin) => dom0.workload.find((workload) => workload.run === 'mediator') ?? null;

/** The results, with the table for each twin whose GPU a mediator shadows. */
export function withDesigns(twins: readonly Twin[], results: readonly TwinResult[]): readonly TwinResult[] {
  const shadowed = twins.filter((twin) => mediatedBy(twin) !== null && twin.policies.mediated !== 'gpa');
  const [first] = shadowed;
  if (!first || new Set(shadowed.map(({ policies }) => policies.mediated)).size < 2) return results;
  const explanation = explainDesigns(first);
  return results.map((result) =>
    shadowed.some(({ name }) => name === result.name)
      ? { ...result, explanation: [...result.explanation, explanation] }
      : result,
  );
}

function explainDesigns(twin: Twin): Explanation {
  const base = hostConfig(twin.host, resolvePolicies({}));
  const gpus = (base.mediatedGpus ?? []).filter(({ sbdf }) => sbdf === mediatedBy(twin)?.device);
  const rows = compareDesigns({ ...base, busFrames: BUS_FRAMES, mediatedGpus: gpus }, SPEC);
  return {
    title: 'The designs side by side on this host',
    paragraphs: [
      `${SPEC.guests} guests with ${SPEC.guestPages} pages each share the GPU, ${SPEC.shadowed} pages each in their tables at first; the same writes and the same balloon in each design. All figures are counted, none is measured in time.`,
    ],
    tables: [tableOf(rows)],
  };
}

/** What it cost beside the trap; nothing is left out but zeros. */
function costText({ hypercalls, ioWrites, p2mWrites, cpuFlushes, iotlbFlushes, gpuFlushes }: DesignCost): string {
  const parts: readonly (readonly [number, string])[] = [
    [hypercalls, 'hypercalls'],
    [ioWrites, 'I/O entries'],
    [p2mWrites, 'p2m entries'],
    [cpuFlushes, 'CPU flushes'],
    [iotlbFlushes, 'IOTLB flushes'],
    [gpuFlushes, 'GPU TLB flushes'],
  ];
  const told = parts.filter(([n]) => n > 0).map(([n, name]) => `${name}: ${count(n)}`);
  return told.join(', ') || 'nothing';
}

function tableOf(rows: readonly DesignRow[]): ReportTable {
  const line = (what: string, of: (row: DesignRow) => string): string[] => [what, ...rows.map(of)];
  const mib = (frames: number): string => `${count(frames)} (${count(frames / FRAMES_PER_MIB)} MiB)`;
  return {
    caption: 'Designs A, B and C: isolation, cost, and what a balloon makes the mediator do',
    head: ['what', ...rows.map(({ design }) => design)],
    rows: [
      line('a shadow entry holds', ({ shadowHolds }) => shadowHolds),
      line('dom0', ({ dom0 }) => dom0),
      line('frames that guests gave the GPU', ({ exposure }) => count(exposure.shadowed)),
      line('frames it reaches beyond those and dom0’s', ({ exposure }) => mib(exposure.beyond)),
      line('… of guests / free / Xen’s', ({ exposure: e }) => [e.guests, e.free, e.xen].map(count).join(' / ')),
      line(
        'a write that names a known frame',
        (row) => `${count(row.perPteWrite.ioreqs)} ioreq, ${costText(row.perPteWrite)}`,
      ),
      line('a new frame, beside the trap', ({ perNewFrame }) => costText(perNewFrame)),
      line('… in a batch of 512', ({ perNewFrameBatched }) => costText(perNewFrameBatched)),
      line('a submission without traps (relaxed)', (row) => `${count(row.perRelaxedSubmit.compares)} entries compared`),
      line(
        'a balloon of one page',
        ({ perBalloon, framesShadowed }) => `${costText(perBalloon)} (${count(framesShadowed)} frames shadowed)`,
      ),
      line('the page until the mediator hears of it', ({ balloonedFrame }) => balloonedFrame),
      line('invariants broken by it', ({ violations }) => violations.join(', ') || 'none'),
    ],
  };
}
