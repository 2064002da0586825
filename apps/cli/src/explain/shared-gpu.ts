// GPUs that dom0 shares, and bus frames that it manages: what a shadow entry holds in the twin's design, what a device reached that it
// should not, and what the drivers found. The course of things is the twin's policies'; the numbers are the run's.
import type { Policies } from '#formats/policies';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { GpuFigures } from '#model/guest/shared-gpu/spec';
import type { Explanation, ReportTable } from '#report/verdict';
import { recordedAs } from '../runner/invariant-names.ts';
import type { Snapshot } from '../runner/snapshot.ts';
import { guestName } from '../runner/telling.ts';
import type { TwinState } from '../runner/twin-state.ts';

const count = (n: number): string => Math.round(n).toLocaleString('en-US');

const DESIGNS: Readonly<Record<Policies['mediated'], string>> = {
  A: 'Design A: a shadow entry holds the machine frame, which dom0 asked Xen for. dom0 is PV and its I/O table maps all of RAM one to one, so whatever a shadow entry says the GPU reaches. Nothing holds a page for it.',
  B: 'Design B: a shadow entry holds a bus frame above RAM, where dom0 has mapped the page by PV-IOMMU. The mapping holds a reference of the page, and dom0 never sees a machine frame.',
  C: 'Design C: a shadow entry holds a gfn of a PVH dom0, where it has foreign-mapped the page; dom0’s I/O table follows its p2m. The foreign mapping holds a reference of the page.',
  gpa: 'The GPU’s table holds what the guest wrote: dom0 has foreign-mapped each page at the very gfn that the guest uses. There is one such gfn in dom0’s bus space, for all guests.',
};

/** How often those invariants were violated by the devices' threads and by Xen, and the first case. */
function events(state: TwinState, invariant: string): { readonly times: number; readonly first: string } {
  const names = recordedAs(invariant);
  const times = names.reduce((sum, name) => sum + (state.observer.violationCounts.get(name) ?? 0), 0);
  return { times, first: state.observer.violations.find((v) => names.includes(v.invariant))?.text ?? '' };
}

export function explainSharedGpu(state: TwinState, snapshot: Snapshot | null): Explanation | null {
  const { timeline } = state.twin;
  if (timeline.some(({ do: what }) => what === 'bus-frames')) return explainBus(state, snapshot);
  const vgpus = timeline.flatMap((step) => (step.do === 'vgpu' ? [step] : []));
  if (vgpus.length === 0) return null;
  const mediated = state.twin.dom0.workload.some(({ run }) => run === 'mediator');
  return {
    title:
      state.observer.violationCounts.size + state.found.size > 0 ? 'Where the shared GPU went wrong' : 'Why it works',
    paragraphs: [
      mediated
        ? `A mediator in dom0’s kernel gives each guest a part of ${[...new Set(vgpus.map(({ device }) => `\`${formatSbdf(device)}\``))].join(' and ')}, write-protects its GPU tables and keeps shadows of them: the GPU has one context entry, and so one table of bus addresses, for all of them. ${DESIGNS[state.twin.policies.mediated]}`
        : 'Each guest has a function of the GPU (SR-IOV) with a context entry, a table and IOTLB entries of its own: GPU tables hold what the guest wrote, and the same address means two frames. Nobody mediates: no table was shadowed and no write trapped.',
      ...story(state),
    ],
    tables: [orders(state), ...(snapshot && mediated ? [costs(snapshot.counters)] : [])],
  };
}

function story(state: TwinState): string[] {
  const { policies, timeline } = state.twin;
  const balloons = timeline.some((step) => step.do === 'vgpu' && step.act === 'balloon');
  const foreign = events(state, 'noGpuReachIntoForeignFrame');
  const freed = events(state, 'noGpuReachIntoFreedFrame');
  const said: string[] = [];
  if (policies.mediated === 'gpa' && foreign.times > 0) {
    said.push(
      `Both guests’ pages lie at the same gfns. The second guest’s pages took the place of the first one’s in dom0’s bus space, and ${count(foreign.times)} accesses for one guest landed in the other’s memory. The first: ${foreign.first}. No fault told anybody; the first guest found its pages unwritten.`,
    );
  }
  if (balloons && freed.times + foreign.times > 0) {
    said.push(
      `A page that the guest gives up is free when Xen answers. Xen’s INVALIDATE reaches the mediator after that, and only then goes the shadow entry. In between ${count(freed.times)} accesses landed in pages that nobody owned${foreign.times > 0 ? `, and ${count(foreign.times)} in pages that were somebody else’s already` : ''}. The first: ${freed.first || foreign.first}. A reference of the page closes the gap: in designs B and C it stays until the mediator has cleared the entry, flushed the GPU’s TLB and unmapped it.`,
    );
  } else if (balloons && policies.mediator === 'tlb-late') {
    const refused = state.found.get('shadowedPageStaysMapped');
    said.push(
      `The mediator cleared the shadow entries and unmapped the pages, but the GPU has a TLB of its own, which it flushed only at the next submission. The running job went on through it to bus addresses that led nowhere: ${count(refused?.count ?? 0)} times the GPU hung${refused ? `; the first: ${refused.first.text}` : ''}. Flushing the IOTLB does not help, and had dom0 mapped something else there meanwhile, the GPU would have written that.`,
    );
  } else if (balloons && policies.mediator === 'no-invalidate') {
    said.push(
      'Memory left the guest and another page came to the same gfn. The guest’s table still names that gfn, so the guest has nothing to tell; the mediator was told by Xen and did not listen. The reference kept the old page from being anybody else’s, but the shadow goes on leading there: what the GPU writes the guest never sees.',
    );
  } else if (balloons && policies['pv-iommu'] === 'drop-in-op') {
    const early = events(state, 'noFrameFreedWhileAnyTlbHoldsIt');
    said.push(
      `The mediator lets go of all pages of the guest in one batch of PV-IOMMU operations. Each dropped its reference at once, the IOTLB was flushed at the end: ${count(early.times)} times the page that the guest had given up was free in between. The first: ${early.first}.`,
    );
  } else if (balloons) {
    said.push(
      'Each time a page was given up the reference held it; the mediator cleared the shadow entries, flushed the GPU’s TLB and waited for accesses under way, unmapped the pages and flushed the IOTLB, and the last reference freed the page. At the next submission it made the shadow again, from the guest’s unchanged table: what the GPU wrote then the CPU found.',
    );
  }
  const refused = state.found.get('shadowedPageStaysMapped');
  if (refused && policies['pv-iommu'] === 'one-flag') {
    said.push(
      `The first mediator mapped a page at a bus frame, the second one looked it up and used the same. One flag stood for both: when the first one let go, mapping and reference went, though shadow entries of the second still name the bus frame. ${count(refused.count)} accesses of its GPU were refused; the first: ${refused.first.text}.`,
      `Then the bus frame was given out again. ${count(foreign.times)} accesses for one guest landed in another guest’s memory; the first: ${foreign.first}. A count of users, as twin \`counted\` has, keeps the mapping until the last one lets go.`,
    );
  }
  if (said.length === 0 && state.observer.violationCounts.size + state.found.size === 0) said.push(soundStory(state));
  return said;
}

/** Nobody gave memory up, and nothing went wrong. */
function soundStory({ twin, observer }: TwinState): string {
  const orders = observer.guests().flatMap(({ gpuOrders }) => [...gpuOrders.values()]);
  const written = count(orders.reduce((sum, { completed }) => sum + completed, 0));
  const found = `The GPU wrote ${written} pages, and each time the guest’s CPU found there what the GPU had written.`;
  if (twin.dom0.workload.filter(({ run }) => run === 'mediator').length > 1) {
    return twin.policies.mediated === 'B'
      ? `The first mediator mapped the pages, the second one looked them up and was counted as a user. When the first one let go the bus frames stayed, since one user was left. ${found}`
      : `Each mediator has foreign mappings of its own, at gfns of its own: what one lets go the other does not miss. It costs a second entry and a second reference for each page. ${found}`;
  }
  return `The guests’ pages lie at the same gfns, and that did no harm: what the GPU uses is not what they wrote, or means their own memory. ${found}`;
}

const BUS: Readonly<Record<'reuse' | 'release', string>> = {
  reuse: 'each bus frame was unmapped and mapped again, to another page, in one batch',
  release: 'all bus frames were unmapped in one batch',
};

function explainBus(state: TwinState, snapshot: Snapshot | null): Explanation {
  const steps = state.twin.timeline.flatMap((step) => (step.do === 'bus-frames' ? [step] : []));
  const freed = events(state, 'noDmaToFreedFrame');
  const early = events(state, 'noFrameFreedWhileAnyTlbHoldsIt');
  const [step] = steps;
  const what = BUS[step?.act ?? 'release'];
  const device = step ? `\`${formatSbdf(step.device)}\`` : 'its device';
  const flushes = count(snapshot?.counters['pvIommu.flush'] ?? 0);
  const running = step?.card === 'running';
  const intro = `dom0 mapped pages of its own at bus frames above RAM (PV-IOMMU), let ${device} write there, and gave the pages up to Xen: what held them then was the mapping’s reference alone. Then ${what}${running ? ', under the card’s DMA' : ''}.`;
  const wrong = early.times > 0;
  return {
    title: wrong
      ? running
        ? 'Why a card wrote into free memory'
        : 'Why pages were free too soon'
      : 'Why no page was free too soon',
    paragraphs: [
      intro,
      wrong
        ? `The IOTLB is flushed once, at the end of the batch. ${count(early.times)} pages were freed before that; the first: ${early.first}. ${running ? `In that time ${count(freed.times)} writes of the card went through the IOTLB into pages that nobody owned${freed.first ? `; the first: ${freed.first}` : ''}. Had Xen given one of them to a guest, the card would have written into the guest.` : ''}`
        : step?.act === 'reuse'
          ? `Before a bus frame that the batch had unmapped was mapped again the IOTLB was flushed and the references dropped: ${flushes} flushes for all of it, where the mistake has one for each batch. That is the price, and only for bus frames that are reused at once.`
          : `References were collected, the IOTLB flushed at the end of the batch (${flushes} flushes in all), and the references dropped after that.`,
      running
        ? 'Between unmapping and mapping the card’s requests fault: its driver left it running on purpose. That is the driver’s own affair.'
        : 'The card’s driver stopped it before the batch. Xen cannot know that, and must not need to.',
    ],
    tables: [orders(state)],
  };
}

/** What each order's kernel reported at its end. */
function orders(state: TwinState): ReportTable {
  const rows = state.observer
    .guests()
    .flatMap(({ domid, gpuOrders }) =>
      [...gpuOrders.values()].map((figures) => orderRow(guestName(state, domid), figures)),
    );
  const head = [
    'kernel',
    'GPU or device',
    'order',
    'attempts',
    'accesses',
    'not in its tables',
    'refused by the IOMMU',
  ];
  return { caption: 'What the drivers did and found', head: [...head, 'pages without what it wrote'], rows };
}

const orderRow = (kernel: string, f: GpuFigures): string[] => [
  kernel,
  formatSbdf(f.device as Sbdf), // the order named a device of the host
  f.what,
  ...[f.made, f.completed, f.pageFaults, f.busFaults, f.lost].map(count),
];

function costs(counters: Readonly<Record<string, number>>): ReportTable {
  const of = (name: string): string => count(counters[name] ?? 0);
  return {
    caption: 'What mediation cost',
    head: ['what', 'figure'],
    rows: [
      ['writes that trapped (ioreqs)', of('gpu.ioreq')],
      ['shadow entries written', of('gpu.shadowWrite')],
      ['entries compared with the guests’ tables', of('gpu.compare')],
      ['GPU TLB flushes', of('gpu.tlbFlush')],
      ['bus frames mapped / unmapped (PV-IOMMU)', `${of('pvIommu.map')} / ${of('pvIommu.unmap')}`],
      ['foreign mappings made / undone in dom0', `${of('foreign.mapped')} / ${of('foreign.unmapped')}`],
      ['IOTLB flushes: by page / by domain', `${of('iommu.flushPage')} / ${of('iommu.flushDomain')}`],
      ['accesses of the GPU', of('gpu.access')],
    ],
  };
}
