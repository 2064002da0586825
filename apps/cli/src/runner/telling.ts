// What was observed, in the words and shapes of the report: faults with Xen's lines, violations with their first case, the
// timeline of all actors and spans. Owns the words; nothing is judged here.
import { cpuTid, deviceTid, type TraceEvent } from '#formats/perfetto';
import { DOMID_XEN, formatSbdf, type Sbdf } from '#model/frames/addresses';
import { vtdFaultLines } from '#model/iommu/vtd/fault-text';
import type { DmaFault, InvariantViolation, TimelineEvent } from '#report/verdict';
import type { GuestNews } from '#wire/guest-messages';
import type { FaultRecord } from './records.ts';
import { DOM0, type TwinState } from './twin-state.ts';

/** Faults and violations that the timeline names one by one. */
const BAD_TOLD = 12;
/** Console lines that tell of something outside the course of things. */
const NOTABLE =
  /crashed|domain_crash|failed \(|out of PoD|Cannot setup identity map|cannot map reserved|Over-allocation/;

/** Xen prints a unit's number; a record does not carry it, so the console's own line is not repeated here but made again. */
export function describeFault({ tsUs, sbdf, dfn, write, reason, cause }: FaultRecord, startedUs: number): DmaFault {
  const [line = '', why = ''] = vtdFaultLines(0, sbdf as Sbdf, dfn, write, reason); // a record carries the device's own number
  const text = `${line}\n${why.replace(/ on iommu:\d+$/, '')}`;
  return { tsUs: tsUs - startedUs, sbdf, domid: cause?.domid ?? -1, dfn, reason, text };
}

/** Everything violated, from the model's own reports, safepoints, and the judgement of the run. */
export function violationsOf(state: TwinState, counts: ReadonlyMap<string, number>): InvariantViolation[] {
  const { observer, found, startedUs } = state;
  const all: InvariantViolation[] = [];
  for (const [invariant, count] of counts) {
    const known = found.get(invariant);
    const event = observer.violations.find((violation) => violation.invariant === invariant);
    if (event) {
      const evidence = JSON.stringify(event.evidence);
      all.push({ invariant, count, first: { text: event.text, tsUs: event.tsUs - startedUs, evidence } });
    } else if (known) all.push({ ...known, count });
  }
  return all.sort((a, b) => a.first.tsUs - b.first.tsUs);
}

/** All actors' events, in order. */
export function eventsOf(state: TwinState): TimelineEvent[] {
  const { observer, startedUs } = state;
  const events = [...state.timeline];
  // dom0 starts before the timeline does.
  const at = (tsUs: number): number => Math.max(0, tsUs - startedUs);
  // A kernel that makes and refills holes for foreign mappings reaches its target again and again: said once.
  const lastBalloon = new Map<number, string>();
  for (const news of observer.news) {
    const told = newsEvent(news, guestName(state, news.domid));
    if (told && news.kind === 'event' && news.name === 'balloon') {
      const said = `${told.what} ${told.detail}`;
      if (lastBalloon.get(news.domid) === said) continue;
      lastBalloon.set(news.domid, said);
    }
    if (told) events.push({ ...told, tsUs: at(news.tsUs) });
  }
  for (const { tsUs, sbdf, dfn, write, reason } of observer.faults.slice(0, BAD_TOLD)) {
    const what = `DMA ${write ? 'write' : 'read'} to ${(dfn * 4096).toString(16)} faults`;
    const detail = `reason ${reason.toString(16).padStart(2, '0')}`;
    events.push({ tsUs: at(tsUs), who: formatSbdf(sbdf as Sbdf), what, detail, tone: 'bad' }); // as above
  }
  for (const { tsUs, invariant, text } of observer.violations.slice(0, BAD_TOLD)) {
    events.push({ tsUs: at(tsUs), who: 'invariant', what: `${invariant} violated`, detail: text, tone: 'bad' });
  }
  return events.sort((a, b) => a.tsUs - b.tsUs);
}

export const guestName = (state: TwinState, domid: number): string =>
  domid === 0 ? DOM0 : (state.names.get(domid) ?? `d${domid}`);

type Told = Omit<TimelineEvent, 'tsUs'> | null;

function newsEvent(news: GuestNews, who: string): Told {
  if (news.kind === 'placed') return { who, what: `runs at ${news.agent}` };
  if (news.kind === 'exit')
    return news.expected ? null : { who, what: 'its process ends', detail: news.why, tone: 'bad' };
  switch (news.name) {
    case 'bootDone':
      return { who, what: 'kernel boots', detail: `${news.data.ramPages} pages of RAM, ${news.data.touched} touched` };
    case 'running':
      return { who, what: 'kernel runs', tone: 'good' };
    case 'balloon':
      return {
        who,
        what: `balloon ${news.data.state}`,
        detail: `${news.data.currentPages} pages of ${news.data.targetPages}`,
      };
    case 'workload':
      return {
        who,
        what: `${news.data.id} ${news.data.state}`,
        detail: news.data.text,
        tone: news.data.state === 'failed' ? 'bad' : 'plain',
      };
    case 'noWriteLost':
      return {
        who,
        what: 'finds foreign data in its memory',
        detail: `${news.data.bad} frames from gfn 0x${news.data.gfn.toString(16)}`,
        tone: 'bad',
      };
    case 'ramMissing':
      return { who, what: 'finds nothing behind its RAM', detail: `${news.data.faulted} frames`, tone: 'bad' };
    case 'panic':
      return { who, what: 'panics', detail: news.data.text, tone: 'bad' };
    case 'shutdown':
      return { who, what: 'shuts down' };
    default:
      return null;
  }
}

/** Console lines worth a place in an explanation. */
export const notableLines = (state: TwinState): string[] => state.observer.console.filter((line) => NOTABLE.test(line));

/** Spans of vCPUs, pCPUs and devices. */
export function* traceOf(state: TwinState, offsetUs: number): Generator<TraceEvent> {
  for (const span of state.observer.spans) {
    const tsUs = span.tsUs - state.startedUs + offsetUs;
    if (span.kind === 'dma') {
      const { durUs, sbdf, completed, faults, thread } = span;
      yield {
        tsUs,
        durUs,
        pid: DOMID_XEN,
        tid: deviceTid(sbdf),
        name: 'dma',
        cat: 'dma',
        args: { completed, faults, thread },
      };
      continue;
    }
    const { durUs, domid, vcpu, pcpu, op, calls, rc } = span;
    const args = { calls, rc, pcpu };
    yield { tsUs, durUs, pid: domid, tid: cpuTid(vcpu), name: op, cat: 'hypercall', args };
    yield { tsUs, durUs, pid: DOMID_XEN, tid: cpuTid(pcpu), name: `d${domid}v${vcpu} ${op}`, cat: 'pcpu' };
  }
  for (const { tsUs, sbdf, dfn, reason } of state.observer.faults) {
    const args = { addr: (dfn * 4096).toString(16), reason };
    yield {
      kind: 'instant',
      tsUs: tsUs - state.startedUs + offsetUs,
      pid: DOMID_XEN,
      tid: deviceTid(sbdf),
      name: 'DMA fault',
      cat: 'fault',
      args,
    };
  }
}
