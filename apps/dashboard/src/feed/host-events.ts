// Records of the host's streams as events of the one log. Console lines that Xen prints for a fault are kept with the fault, so
// that its card shows them word for word.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { vtdFaultLines } from '#model/iommu/vtd/fault-text';
import { decodeGuestNews, type GuestNews } from '#wire/guest-messages';
import type { NewEvent } from './event-log.ts';

/** A domain that a console line speaks of: `(d3)`, `d3 `, `Domain 3`, `domain d3`. */
const OF_DOMAIN = /(?:^\(XEN\) |\b)(?:\(d(\d+)\)|d(\d+)\b|[Dd]omain d?(\d+))/;

export function consoleEvent(tsMs: number, line: string): NewEvent {
  const found = OF_DOMAIN.exec(line);
  const domid = Number(found?.[1] ?? found?.[2] ?? found?.[3] ?? -1);
  return { tsMs, kind: 'console', domid, text: line };
}

interface FaultRecord {
  readonly kind: string;
  readonly tsUs: number;
  readonly sbdf: number;
  readonly dfn: number;
  readonly write: boolean;
  readonly reason: number;
  readonly cause: { readonly domid: number; readonly p2mType: string; readonly why: string } | null;
}

interface ViolationRecord {
  readonly kind: string;
  readonly tsUs: number;
  readonly invariant: string;
  readonly text: string;
}

/** Of the stream `faults`; null: not a record of this version. `unitOf`: which unit stands before a device. */
export function faultEvent(record: Buffer, unitOf: (sbdf: number) => number): NewEvent | null {
  const value = JSON.parse(record.toString()) as FaultRecord | ViolationRecord; // written by the hypervisor of this version
  const tsMs = value.tsUs / 1000;
  if ('invariant' in value) {
    return { tsMs, kind: 'violation', domid: -1, text: value.text, invariant: value.invariant };
  }
  if (value.kind !== 'dma-fault') return null;
  const { sbdf, dfn, write, reason, cause } = value;
  const where = `${formatSbdf(sbdf as Sbdf)} ${write ? 'write' : 'read'} at ${(dfn * 4096).toString(16)}`;
  return {
    tsMs,
    kind: 'fault',
    domid: cause?.domid ?? -1,
    text: `DMA fault: ${where}, reason ${reason.toString(16).padStart(2, '0')}`,
    fault: {
      sbdf,
      dfn,
      write,
      reason,
      domid: cause?.domid ?? -1,
      p2mType: cause?.p2mType ?? 'none',
      why: cause?.why ?? '',
      lines: vtdFaultLines(unitOf(sbdf), sbdf as Sbdf, dfn, write, reason).map((line) => `(XEN) ${line}`),
    },
  };
}

/** What a guest says that a reader of the log wants to know; reports that come by the hundred are not events. */
export function guestEvents(record: Buffer): NewEvent[] {
  const news = decodeGuestNews(record);
  const text = textOf(news);
  if (text === null) return [];
  const e820 = news.kind === 'event' && news.name === 'e820' ? { e820: news.data.entries } : {};
  return [{ tsMs: news.tsUs / 1000, kind: 'guest', domid: news.domid, text, ...e820 }];
}

function textOf(news: GuestNews): string | null {
  if (news.kind === 'placed') return `its kernel runs as process ${news.pid} of agent ${news.agent}`;
  if (news.kind === 'exit') return `its process ended: ${news.why}`;
  switch (news.name) {
    case 'e820':
      return `its kernel sees ${mib(news.data.ramPages)} of RAM in ${news.data.entries.length} ranges`;
    case 'running':
      return `its kernel runs: ${mib(news.data.currentPages)} of a target of ${mib(news.data.targetPages)}`;
    case 'gpuBurst':
      return news.data.faults === 0
        ? null
        : `its GPU faulted ${news.data.faults} times, first at frame ${news.data.firstFaultDfn.toString(16)}`;
    case 'noWriteLost':
      return `frame ${news.data.gfn.toString(16)} lost what was written: ${news.data.bad} in all`;
    case 'panic':
      return `its kernel panicked: ${news.data.text}`;
    case 'shutdown':
      return `it shut down (reason ${news.data.reason})`;
    default:
      return null;
  }
}

const mib = (pages: number): string => `${Math.round(pages / 256)} MiB`;
