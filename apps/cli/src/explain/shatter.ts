// Superpages under DMA: how many were split, in which step, what the neighbours of the split page saw, and what it cost. Told
// wherever dom0 has a network card that does DMA while its memory changes.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { Explanation, ReportTable } from '#report/verdict';
import type { Snapshot } from '../runner/snapshot.ts';
import type { TwinState } from '../runner/twin-state.ts';

const count = (n: number): string => Math.round(n).toLocaleString('en-US');

export function explainShatter(state: TwinState, snapshot: Snapshot | null): Explanation | null {
  const nic = state.twin.dom0.workload.find((task) => task.run === 'nic');
  if (!nic || !snapshot) return null;
  const { counters } = snapshot;
  const shatters = (counters['iommu.ptShatters'] ?? 0) + (isShared(state) ? (counters['p2m.split'] ?? 0) : 0);
  const faults = state.observer.faults.filter(({ sbdf }) => sbdf === nic.device);
  return {
    title: faults.length > 0 ? 'Why pages that nobody gave up faulted' : 'What was split, and what it cost',
    paragraphs: [
      `dom0's network card \`${formatSbdf(nic.device)}\` writes into ${count(nic.ringFrames)} frames spread over dom0's memory almost all the time. ` +
        'Building a guest beside dom0 takes single pages out of that memory, for foreign mappings and by the balloon; each taken out of a ' +
        'large mapping splits it. The page that dom0 gives up is dom0’s own affair. Its 511 neighbours are Xen’s.',
      how(state, shatters),
      ...faultSentences(state, faults.length),
    ],
    tables: [byStep(state), cost(counters)],
  };
}

const isShared = (state: TwinState): boolean =>
  state.observer.faults.some(({ cause }) => cause?.sharedTables) || state.twin.policies['iommu.tables'] === 'shared';

function how(state: TwinState, shatters: number): string {
  const { policies } = state.twin;
  if (shatters === 0) {
    if (policies['iommu.superpages'] === 'off')
      return 'Nothing was split: the IOMMU maps by 4K only. It pays with a deeper walk and more tables.';
    return 'Nothing was split in this run.';
  }
  const split = `${count(shatters)} large mappings were split. `;
  switch (policies.shatter) {
    case 'naive':
      return `${split}The naive order: the 2M entry is cleared and flushed, then the 511 neighbours are mapped again one by one. Until its turn comes a neighbour has no mapping.`;
    case 'break-before-make':
      return `${split}Break before make: the entry is made invalid, the caches are flushed, then the filled small table goes in. A CPU that comes in between takes a fault and tries again; a device that comes in between has failed.`;
    case 'atomic':
      return `${split}The atomic order: the small table is filled aside, put in place by one store, and the IOTLB flushed after that. A walk finds the old mapping or the new one, never none.`;
    default:
      return policies.shatter satisfies never;
  }
}

function faultSentences(state: TwinState, faults: number): string[] {
  if (faults === 0) return [];
  const [first] = state.observer.faults;
  const pages = new Set(state.observer.faults.map(({ dfn }) => dfn)).size;
  const ram = state.observer.faults.filter(({ cause }) => cause?.isRam).length;
  return [
    `${count(faults)} DMA requests on ${count(pages)} pages faulted. The driver had these pages in its receive ring all along, and so the balloon ` +
      `could not have given them up; right after the fault the p2m had RAM there again in ${count(ram)} of the cases.`,
    ...(first
      ? [
          `The first: \`${formatSbdf(first.sbdf as Sbdf)}\` at \`${(first.dfn * 4096).toString(16)}\`. ${first.cause?.why ?? ''}`,
        ] // a record carries the device's own number
      : []),
  ];
}

/** Splits by what caused them: each step of the timeline asks for one thing. */
function byStep(state: TwinState): ReportTable {
  const names = ['iommu.ptShatters', 'iommu.ptCoalesces', 'p2m.split', 'foreign.mapped', 'dma.faults'] as const;
  return {
    caption: 'What each step split, and the faults in it',
    head: ['step', 'I/O splits', 'I/O joins', 'p2m splits', 'foreign mappings', 'DMA faults', 'ms'],
    rows: state.steps.map(({ text, before, after, us }) => [
      text,
      ...names.map((name) => count((after[name] ?? 0) - (before[name] ?? 0))),
      count(us / 1000),
    ]),
  };
}

function cost(counters: Readonly<Record<string, number>>): ReportTable {
  const of = (name: string): number => counters[name] ?? 0;
  const misses = of('iotlb.miss');
  const lookups = misses + of('iotlb.hit');
  const percent = lookups === 0 ? '–' : `${((misses / lookups) * 100).toFixed(2)} %`;
  return {
    caption: 'What DMA and its tables cost',
    head: ['what', 'figure'],
    rows: [
      ['DMA transactions', count(of('dma.transactions'))],
      ['IOTLB misses', `${count(misses)} (${percent})`],
      ['table reads per miss', misses === 0 ? '–' : (of('iommu.walkSteps') / misses).toFixed(2)],
      ['I/O table pages in use at the end', count(of('iommu.ptAlloc') - of('iommu.ptFree'))],
      ['memory for them', `${count((of('iommu.ptAlloc') - of('iommu.ptFree')) * 4)} KiB`],
      ['IOTLB flushes: by page / by domain', `${count(of('iommu.flushPage'))} / ${count(of('iommu.flushDomain'))}`],
      ['flushes that waited for DMA under way', count(of('iommu.flushWait'))],
    ],
  };
}
