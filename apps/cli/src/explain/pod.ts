// A device meets populate-on-demand: which entry the p2m had, who would have put a frame behind it, what the IOMMU held, and how
// one knows that no CPU had touched the page. Also the run in which everything was populated beforehand.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { DomainInfo } from '#model/hypercall/calls';
import type { Explanation, ReportTable } from '#report/verdict';
import { xenP2mName } from '../runner/p2m-names.ts';
import type { FaultRecord } from '../runner/records.ts';
import type { Snapshot } from '../runner/snapshot.ts';
import { guestName, notableLines } from '../runner/telling.ts';
import { hasCrashed, type TwinState } from '../runner/twin-state.ts';

const PAGE = 4096;
const LINES_MAX = 6;

const hex = (n: number): string => `0x${n.toString(16)}`;
const pages = (order: number): string => (order === 0 ? 'one page' : `${2 ** order} pages`);
const count = (n: number): string => n.toLocaleString('en-US');

export function explainPod(state: TwinState, snapshot: Snapshot | null): Explanation | null {
  const fault = state.observer.faults.find(({ cause }) => cause?.p2mType === 'populateOnDemand');
  if (fault?.cause) return podFault(state, snapshot, fault, fault.cause.domid);
  const populated = (snapshot?.counters['pod.populate2m'] ?? 0) + (snapshot?.counters['pod.populate4k'] ?? 0);
  return populated > 0 && snapshot ? podPopulated(state, snapshot) : null;
}

function podFault(state: TwinState, snapshot: Snapshot | null, fault: FaultRecord, domid: number): Explanation {
  const { sbdf, dfn, write, reason, cause } = fault;
  const guest = guestName(state, domid);
  const device = formatSbdf(sbdf as Sbdf); // a record carries the device's own number
  const shared = cause?.sharedTables ?? false;
  const info = snapshot?.domains.find((domain) => domain.domid === domid) ?? null;
  const access = write ? 'write' : 'read';
  return {
    title: `Why the DMA ${access} to ${(dfn * PAGE).toString(16)} faulted`,
    paragraphs: [
      `The device \`${device}\` was told by ${guest}'s driver to ${access} gfn \`${hex(dfn)}\`. The guest's memory map calls that page RAM, ` +
        `and so does its kernel. Xen's p2m had a \`${xenP2mName(cause?.p2mType ?? '')}\` entry there: a promise of a frame, with no frame behind it.`,
      'Who would have populated it: a load or store of one of the guest’s CPUs (an EPT violation traps into Xen, which takes a frame ' +
        'from the PoD cache and lets the instruction run again); a hypercall that copies to or from the page; a foreign or grant mapping ' +
        'of it. A device’s access does none of this: it does not trap into Xen, so nobody acts, and a faulted DMA is not replayed.',
      shared
        ? 'What the IOMMU held: it walks the CPU’s own tables (shared with EPT). Sharing does not help: a PoD entry has neither the read ' +
          'nor the write bit, so the same entry that makes a CPU trap makes the device fault.'
        : 'What the IOMMU held: nothing. Its tables are separate, and Xen mirrors an entry into them only when the entry has a frame.',
      untouchedSentence(snapshot, dfn),
      cacheSentence(info, guest),
      ...crashSentence(info, guest, state),
      `Reason ${reason.toString(16).padStart(2, '0')} is what VT-d reports when the entry it found does not allow a ${access}; an absent entry allows nothing.`,
    ],
    tables: [threeTables(fault, snapshot), ...(info ? [podTable(info, snapshot)] : []), ...linesTable(state)],
  };
}

function untouchedSentence(snapshot: Snapshot | null, dfn: number): string {
  const swept = snapshot?.counters['pod.sweepPages'] ?? 0;
  const start = `How one knows that no CPU ever touched gfn \`${hex(dfn)}\`: the builder marked it PoD, and a touch would have turned the entry into \`ram_rw\``;
  if (snapshot && swept === 0) {
    return `${start}; only a sweep for pages of zeroes could have turned it back, and Xen swept none in this run. The driver had taken the page when it loaded, and only the device was told to use it.`;
  }
  return `${start}. (Xen also swept ${count(swept)} pages of zeroes, which can turn an untouched-looking page back.)`;
}

function cacheSentence(info: DomainInfo | null, guest: string): string {
  if (!info) return `${guest} is gone, and its PoD counters with it.`;
  const enough = info.podCache > 0;
  return (
    `At the end ${guest} still had ${count(info.podEntries)} PoD entries and ${count(info.podCache)} frames in its PoD cache` +
    (enough ? ': memory was not short. A single CPU touch of the page before the DMA would have made it work.' : '.')
  );
}

function crashSentence(info: DomainInfo | null, guest: string, state: TwinState): string[] {
  const panic = state.observer
    .guests()
    .findLast((seen) => seen.panic !== null && guestName(state, seen.domid) === guest)?.panic;
  if (!panic && !(info && hasCrashed(info))) return [];
  return [
    `${guest}'s driver saw a device that hangs, reset it as often as it is patient, and the system gave up: \`${panic ?? 'crash'}\`.`,
  ];
}

/** CPU's table, IOMMU's table, IOTLB: the three that have to agree. */
function threeTables({ dfn, cause }: FaultRecord, snapshot: Snapshot | null): ReportTable {
  const now = snapshot?.peeks.get(dfn);
  const atFault = (value: string | null | undefined): string => value ?? 'not recorded';
  return {
    caption: `gfn ${hex(dfn)} in each table`,
    head: ['table', 'right after the fault', 'at the end of the run'],
    rows: [
      ['p2m (EPT) type', atFault(cause && xenP2mName(cause.p2mType)), now ? xenP2mName(now.p2mType) : 'not looked at'],
      [
        'frame behind it',
        cause && cause.mfn >= 0 ? hex(cause.mfn) : 'none',
        now && now.mfn >= 0 ? hex(now.mfn) : 'none',
      ],
      [
        'covered by one entry of',
        cause ? pages(cause.order) : 'not recorded',
        now ? pages(now.order) : 'not looked at',
      ],
      [
        cause?.sharedTables ? 'IOMMU (the same table)' : 'IOMMU (own table)',
        atFault(cause?.iommuEntry),
        now ? now.iommu : 'not looked at',
      ],
      [
        'IOTLB',
        'no translation: the walk faulted',
        now ? (now.iotlb ? 'has the page' : 'has nothing') : 'not looked at',
      ],
    ],
  };
}

function podTable(info: DomainInfo, snapshot: Snapshot | null): ReportTable {
  const counters = snapshot?.counters ?? {};
  return {
    caption: `PoD accounting of ${info.name} (d${info.domid})`,
    head: ['what', 'pages'],
    rows: [
      ['PoD entries: promised, no frame', count(info.podEntries)],
      ['PoD cache: frames ready for them', count(info.podCache)],
      ['frames the domain owns in all (tot_pages)', count(info.totPages)],
      [
        'demand populates of 2M / of 4K',
        `${count(counters['pod.populate2m'] ?? 0)} / ${count(counters['pod.populate4k'] ?? 0)}`,
      ],
      [
        'reclaimed (zero pages taken back)',
        count((counters['pod.reclaimSuper'] ?? 0) + (counters['pod.reclaimSingle'] ?? 0)),
      ],
    ],
  };
}

function linesTable(state: TwinState): ReportTable[] {
  const lines = [
    ...state.observer.console.filter((line) => line.includes('DMAR:')).slice(0, 2),
    ...notableLines(state).slice(0, LINES_MAX),
  ];
  return lines.length === 0
    ? []
    : [{ caption: 'What Xen said', head: ['xl dmesg'], rows: lines.map((line) => [line]) }];
}

function podPopulated(state: TwinState, snapshot: Snapshot): Explanation {
  const counters = snapshot.counters;
  const info = snapshot.focus ? snapshot.domains.find(({ domid }) => domid === snapshot.focus?.domid) : undefined;
  const first = state.twin.policies['pod-with-passthrough'] === 'populate-first';
  return {
    title: first
      ? 'Why it does not fault: everything is populated first'
      : 'Why it works: a CPU touches before anybody else',
    paragraphs: [
      first
        ? 'Before the device was assigned, Xen put a frame behind every PoD entry of the guest, and the IOMMU mirrors entries that have frames. ' +
          'From then on there is nothing left to populate on demand, so it does not matter who comes first, a CPU or the device.'
        : 'There is no device: every first access is a CPU’s. It traps into Xen, Xen takes a frame from the PoD cache, and the access runs again.',
      `Demand populates: ${count(counters['pod.populate2m'] ?? 0)} of 2M and ${count(counters['pod.populate4k'] ?? 0)} of 4K.` +
        (info
          ? ` At the end ${info.name} had ${count(info.podEntries)} PoD entries and ${count(info.podCache)} frames in its cache.`
          : ''),
    ],
    ...(info ? { tables: [podTable(info, snapshot)] } : {}),
  };
}
