// What a twin's host held when its timeline had ended, read while it was still alive: counters, locks, domains, and the memory of
// the guest the scenario is about. Owns what is read and how it is turned into the report's figures.
import type { LockProfileRow } from '#formats/lockprof';
import type { Twin } from '#formats/scenario';
import type { DomainInfo, MemoryMapEntry } from '#model/hypercall/calls';
import type { IommuSegment, MemorySegment, SegmentKind } from '#report/verdict';
import type { MemoryRun, Peek } from '#wire/hv-messages';
import { xenP2mName } from './p2m-names.ts';
import { DOM0, type TwinState } from './twin-state.ts';

/** A guest that was ballooned by single pages has tens of thousands; the picture merges them. */
const RUNS_MAX = 80_000;
/** Runs whose IOMMU entry is looked at one by one. */
const PEEKS_MAX = 48;
const PEEKS_AT_ONCE = 6;
const PAGE = 4096;
const GLOBAL = -1;
const DOMAIN_LOCKS: ReadonlySet<string> = new Set(['p2m', 'pod', 'pageAlloc', 'paging', 'pci', 'iommuMapping']);

export interface FocusSnapshot {
  readonly guest: string;
  readonly domid: number;
  readonly memoryMap: readonly MemorySegment[];
  readonly iommuMap: readonly IommuSegment[];
  readonly e820: readonly MemoryMapEntry[] | null;
}

export interface Snapshot {
  readonly counters: Readonly<Record<string, number>>;
  readonly wire: Readonly<Record<string, number>>;
  readonly locks: readonly LockProfileRow[];
  readonly profilingNs: number;
  readonly domains: readonly DomainInfo[];
  readonly focus: FocusSnapshot | null;
  /** Entries of the gfns at which devices faulted first, and of the reserved regions of the scenario's devices. */
  readonly peeks: ReadonlyMap<number, Peek>;
}

/** The guest that has a device, or else dom0 if it has a network card, or else the first. */
export function focusOf(twin: Twin): string {
  const withDevice = twin.guests.find(({ workload }) => workload.some((task) => 'device' in task));
  const asked = twin.timeline.find((step) => step.do === 'gpu-dma');
  if (withDevice) return withDevice.name;
  if (asked) return asked.guest;
  return twin.dom0.workload.some(({ run }) => run === 'nic') ? DOM0 : (twin.guests[0]?.name ?? DOM0);
}

export async function takeSnapshot(state: TwinState): Promise<Snapshot> {
  const { host, observer, twin } = state;
  const [{ counters, wire }, { rows, elapsedNs }, domains] = await Promise.all([
    state.counters(),
    host.hv({ op: 'lockprof' }),
    state.domains(),
  ]);
  const focusName = focusOf(twin);
  const info = await state.domain(focusName);
  const focus = info ? await focusSnapshot(state, focusName, info.domid) : null;
  const peeks = new Map<number, Peek>();
  if (focus) {
    const first = observer.faults.find(({ cause }) => cause?.domid === focus.domid);
    const reserved = twin.host.rmrrs.map(({ start }) => Math.floor(start / PAGE));
    for (const gfn of new Set([...(first ? [first.dfn] : []), ...reserved])) {
      peeks.set(gfn, await state.peek(focus.domid, gfn));
    }
  }
  return {
    counters,
    wire,
    locks: rows.filter(({ lockCnt }) => lockCnt > 0).map(lockRow),
    profilingNs: elapsedNs,
    domains,
    focus,
    peeks,
  };
}

interface WireLockRow {
  readonly name: string;
  readonly scope: number;
  readonly lockCnt: number;
  readonly blockCnt: number;
  readonly holdNs: number;
  readonly waitNs: number;
  readonly inXen: boolean;
}

/** Locks of units and devices are the host's. */
function lockRow({ name, scope, lockCnt, blockCnt, holdNs, waitNs, inXen }: WireLockRow): LockProfileRow {
  const counts = { lockCnt, blockCnt, holdNs, blockNs: waitNs, inXen };
  if (scope === GLOBAL) return { scope: 'global', name, ...counts };
  if (!DOMAIN_LOCKS.has(name)) return { scope: 'global', name: `${name} ${scope}`, ...counts };
  return { scope, name, ...counts };
}

async function focusSnapshot(state: TwinState, guest: string, domid: number): Promise<FocusSnapshot> {
  const { runs } = await state.host.hv({ op: 'memory-map', domid, maxRuns: RUNS_MAX });
  const rmrrs = state.twin.host.rmrrs.map(({ start, end }) => ({
    start: Math.floor(start / PAGE),
    end: Math.floor((end + 1) / PAGE),
  }));
  const segments: MemorySegment[] = [];
  for (const run of runs) {
    const kind = kindOf(run, rmrrs);
    const last = segments.at(-1);
    if (last && last.kind === kind && last.endGfn === run.start)
      segments[segments.length - 1] = { ...last, endGfn: run.end };
    else segments.push({ startGfn: run.start, endGfn: run.end, kind, label: labelOf(kind) });
  }
  return {
    guest,
    domid,
    memoryMap: segments,
    iommuMap: await iommuMap(state, domid, runs),
    e820: state.observer.guest(domid)?.e820 ?? null,
  };
}

function kindOf({ type, start }: MemoryRun, rmrrs: readonly { start: number; end: number }[]): SegmentKind {
  const name = xenP2mName(type);
  if (name === 'populate_on_demand') return 'pod';
  if (name === 'mmio_direct') return rmrrs.some((r) => start >= r.start && start < r.end) ? 'rmrr' : 'mmio';
  return name === 'mmio_dm' || name === 'invalid' ? 'hole' : 'ram';
}

function labelOf(kind: SegmentKind): string {
  const labels: Readonly<Record<SegmentKind, string>> = {
    ram: 'RAM',
    pod: 'PoD',
    hole: 'hole',
    mmio: 'MMIO',
    rmrr: 'RMRR',
    reserved: 'reserved',
  };
  return labels[kind];
}

/** Looked up where the p2m changes: at the first runs, and once for each type and size of entry. */
async function iommuMap(state: TwinState, domid: number, runs: readonly MemoryRun[]): Promise<IommuSegment[]> {
  const keyOf = ({ type, order }: MemoryRun): string => `${type}/${order}`;
  const firsts = new Map(runs.toReversed().map((run) => [keyOf(run), run]));
  const looked = [...new Set([...runs.slice(0, PEEKS_MAX), ...firsts.values()])];
  const peeks: Peek[] = [];
  for (let at = 0; at < looked.length; at += PEEKS_AT_ONCE) {
    const some = looked.slice(at, at + PEEKS_AT_ONCE);
    peeks.push(...(await Promise.all(some.map(({ start }) => state.peek(domid, start)))));
  }
  const mapped = new Map(looked.map((run, i) => [run, isMapped(peeks[i])]));
  const segments: IommuSegment[] = [];
  for (const run of runs) {
    const first = firsts.get(keyOf(run));
    const here = mapped.get(run) ?? (first ? mapped.get(first) : undefined) ?? false;
    const last = segments.at(-1);
    if (last && last.mapped === here && last.endDfn === run.start)
      segments[segments.length - 1] = { ...last, endDfn: run.end };
    else segments.push({ startDfn: run.start, endDfn: run.end, mapped: here });
  }
  return segments;
}

const isMapped = (peek: Peek | undefined): boolean =>
  peek?.iommu === 'mapped' || peek?.iommu === 'ro' || peek?.iommu === 'wo';
