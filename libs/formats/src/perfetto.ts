// Trace events as Chrome's trace-event JSON, which ui.perfetto.dev opens: one process a domain (pid = domid, Xen itself
// 0x7ff2), one thread a vCPU, device or pCPU. The text is yielded in chunks, so a long trace is never one string.
// This file owns the JSON shape; it neither collects events nor writes files.
import { DOMID_XEN, formatSbdf, type Sbdf } from '#model/frames/addresses';

export interface TraceEvent {
  /** Default: a span where `durUs` is given, else an instant. `begin`/`end` are the two ends of an asynchronous span. */
  readonly kind?: 'span' | 'instant' | 'counter' | 'begin' | 'end';
  /** Microseconds since the run began; fractions are kept. */
  readonly tsUs: number;
  readonly durUs?: number;
  /** Domid. */
  readonly pid: number;
  readonly tid: number;
  readonly name: string;
  readonly cat: string;
  /** What ties a `begin` to its `end`. */
  readonly id?: string;
  /** Shown beside the event; of a counter, the series and their values. */
  readonly args?: Readonly<Record<string, string | number | boolean>>;
}

export interface TraceNames {
  /** Domid → name. A domain left out is called by its number. */
  readonly processes: Readonly<Record<number, string>>;
  /** Names of threads that the number alone does not explain. */
  readonly threads?: readonly { readonly pid: number; readonly tid: number; readonly name: string }[];
  /** Events that were lost before they came here; told in the trace itself. */
  readonly dropped?: number;
}

const FIRST_DEVICE_TID = 0x1_0000;
const CHUNK_CHARACTERS = 64 * 1024;

/** Thread of a vCPU in its domain's process, or of a pCPU in Xen's. */
export const cpuTid = (cpu: number): number => cpu;
/** Thread of a device in the process of the domain that has it. */
export const deviceTid = (sbdf: number): number => FIRST_DEVICE_TID + sbdf;

function defaultThreadName(pid: number, tid: number): string {
  if (tid >= FIRST_DEVICE_TID) return `device ${formatSbdf((tid - FIRST_DEVICE_TID) as Sbdf)}`; // the inverse of deviceTid
  return pid === DOMID_XEN ? `pCPU ${tid}` : `d${pid}v${tid}`;
}

function defaultProcessName(pid: number): string {
  if (pid === DOMID_XEN) return 'Xen';
  return pid === 0 ? 'Domain-0' : `d${pid}`;
}

const PHASE = { span: 'X', instant: 'i', counter: 'C', begin: 'b', end: 'e' } as const;

function encodeEvent(event: TraceEvent): string {
  const kind = event.kind ?? (event.durUs === undefined ? 'instant' : 'span');
  const { tsUs: ts, pid, tid, name, cat, args } = event;
  return JSON.stringify({
    ph: PHASE[kind],
    ts,
    pid,
    tid,
    name,
    cat,
    ...(kind === 'span' ? { dur: event.durUs ?? 0 } : {}),
    ...(kind === 'instant' ? { s: 't' } : {}),
    ...(kind === 'begin' || kind === 'end' ? { id: event.id ?? name } : {}),
    ...(args === undefined ? {} : { args }),
  });
}

const metadata = (name: string, pid: number, tid: number, args: object): string =>
  JSON.stringify({ ph: 'M', name, pid, tid, args });

/** Metadata rows that name every process and thread that events were seen of. */
function* nameRows(seen: ReadonlyMap<number, ReadonlySet<number>>, names: TraceNames): Generator<string> {
  const threadNames = new Map(names.threads?.map(({ pid, tid, name }) => [`${pid}/${tid}`, name]));
  for (const [pid, tids] of seen) {
    yield metadata('process_name', pid, 0, { name: names.processes[pid] ?? defaultProcessName(pid) });
    yield metadata('process_sort_index', pid, 0, { sort_index: pid === DOMID_XEN ? -1 : pid });
    for (const tid of tids) {
      const name = threadNames.get(`${pid}/${tid}`) ?? defaultThreadName(pid, tid);
      yield metadata('thread_name', pid, tid, { name });
      yield metadata('thread_sort_index', pid, tid, { sort_index: tid });
    }
  }
}

/** The JSON text of a trace, in chunks of about 64 KiB. Events need not be in order. */
export async function* traceChunks(
  events: Iterable<TraceEvent> | AsyncIterable<TraceEvent>,
  names: TraceNames,
): AsyncGenerator<string> {
  const seen = new Map<number, Set<number>>();
  let chunk = '{"displayTimeUnit":"ns","traceEvents":[\n';
  let separator = '';
  const append = (row: string): void => {
    chunk += separator + row;
    separator = ',\n';
  };
  for await (const event of events) {
    let tids = seen.get(event.pid);
    if (tids === undefined) {
      tids = new Set();
      seen.set(event.pid, tids);
    }
    if (event.kind !== 'counter') tids.add(event.tid); // a counter's track belongs to the process
    append(encodeEvent(event));
    if (chunk.length >= CHUNK_CHARACTERS) {
      yield chunk;
      chunk = '';
    }
  }
  for (const row of nameRows(seen, names)) append(row);
  yield `${chunk}\n],"otherData":{"dropped":${JSON.stringify(`${names.dropped ?? 0}`)}}}\n`;
}
