// Whether an assertion holds, for the end of a run and for the steps that wait for one. Live assertions ask the host as it is
// now; the others look at what was observed. "unknown" is said where something could not be found out, never for "no".
import type { Assertion, Bound, E820Row } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import type { DomainInfo, E820Type, MemoryMapEntry } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import type { AssertionOutcome } from '#report/verdict';
import { assertionText, boundText, hexOf, within } from './assertion-text.ts';
import { recordedAs } from './invariant-names.ts';
import type { FaultRecord } from './records.ts';
import { DOM0, hasCrashed, isDying, isShutdown, type TwinState } from './twin-state.ts';

type Of<C extends Assertion['check']> = Extract<Assertion, { check: C }>;
/** Without the words for the assertion itself. */
type Finding = Omit<AssertionOutcome, 'text'>;

const E820_TYPE: Readonly<Record<E820Row['type'], E820Type | null>> = {
  usable: 1,
  reserved: 2,
  acpi: 3,
  nvs: 4,
  unusable: 5,
  hole: null,
};
const SUPERPAGE_PAGES = 512;

/** Those that ask the living host; the rest is judged from what was observed, after everything observed is in. */
export const isLive = (a: Assertion): boolean =>
  a.check === 'guest' || a.check === 'pod' || a.check === 'entry' || a.check === 'counter';

/** `greater` compares twins: it is judged when all have run. */
export async function evaluate(assertion: Assertion, state: TwinState): Promise<AssertionOutcome> {
  const text = assertionText(assertion);
  try {
    return { text, ...(await find(assertion, state)) };
  } catch (error) {
    const found = `could not be found out: ${error instanceof Error ? error.message : String(error)}`;
    return { text, expected: text, found, ok: 'unknown' };
  }
}

function find(a: Assertion, state: TwinState): Finding | Promise<Finding> {
  switch (a.check) {
    case 'violated':
      return violated(a, state);
    case 'never':
      return never(a, state);
    case 'fault':
      return fault(a, state);
    case 'noFault':
      return noFault(a, state);
    case 'guest':
      return guest(a, state);
    case 'dmesg':
      return counted(matches(state.observer.console, a.regex), a.atLeast, 'lines');
    case 'toolstack-error':
      return counted(
        matches(
          state.verbs.filter(({ exitCode }) => exitCode !== 0).map(({ stderr }) => stderr),
          a.regex,
        ),
        a.atLeast,
        'refusals',
      );
    case 'errno':
      return errnoAnswered(a, state);
    case 'counter':
      return counter(a, state);
    case 'e820':
      return e820(a, state);
    case 'pod':
      return pod(a, state);
    case 'entry':
      return entry(a, state);
    case 'greater':
      return { expected: '', found: 'not compared yet', ok: 'unknown' };
    default:
      return a satisfies never;
  }
}

/** How often each invariant was violated, however it was noticed. */
export function violationCounts(state: TwinState): Map<string, number> {
  const counts = new Map(state.observer.violationCounts);
  for (const { invariant, count } of state.found.values()) counts.set(invariant, (counts.get(invariant) ?? 0) + count);
  return counts;
}

function violated({ invariant, atLeast }: Of<'violated'>, state: TwinState): Finding {
  const counts = violationCounts(state);
  const count = recordedAs(invariant).reduce((sum, name) => sum + (counts.get(name) ?? 0), 0);
  const first = firstViolation(state, recordedAs(invariant));
  return {
    expected: `${atLeast} or more`,
    found: `${count}`,
    ok: count >= atLeast,
    ...(first ? { evidence: first } : {}),
  };
}

function never({ invariant }: Of<'never'>, state: TwinState): Finding {
  const names = invariant === '*' ? null : recordedAs(invariant);
  const counts = [...violationCounts(state)].filter(([name, n]) => n > 0 && (names === null || names.includes(name)));
  const first = firstViolation(
    state,
    counts.map(([name]) => name),
  );
  const found = counts.length === 0 ? 'none' : counts.map(([name, n]) => `${name} ×${n}`).join(', ');
  return { expected: 'none', found, ok: counts.length === 0, ...(first ? { evidence: first } : {}) };
}

function firstViolation(state: TwinState, names: readonly string[]): string | null {
  for (const name of names) {
    const found = state.found.get(name) ?? state.observer.violations.find(({ invariant }) => invariant === name);
    if (found) return 'first' in found ? found.first.text : found.text;
  }
  return null;
}

const faultLine = ({ sbdf, dfn, write, reason }: FaultRecord): string =>
  `DMA ${write ? 'write' : 'read'} of ${formatSbdf(sbdf as Parameters<typeof formatSbdf>[0])} at ${(dfn * 4096).toString(16)}, reason ${reason.toString(16).padStart(2, '0')}`; // a record carries the number that the model printed

function fault(a: Of<'fault'>, { observer }: TwinState): Finding {
  const hits = observer.faults.filter(
    (f) =>
      (a.device === null || f.sbdf === a.device) &&
      (a.addr === null || f.dfn === Math.floor(a.addr / 4096)) &&
      (a.kind === null || f.write === (a.kind === 'write')) &&
      (a.reason === null || f.reason === a.reason),
  );
  const [first] = hits.length > 0 ? hits : observer.faults;
  const found = hits.length > 0 ? `${hits.length}` : `0 of ${observer.faultCount} faults`;
  return {
    expected: `${a.atLeast} or more`,
    found,
    ok: hits.length >= a.atLeast,
    ...(first ? { evidence: faultLine(first) } : {}),
  };
}

function noFault({ device }: Of<'noFault'>, { observer }: TwinState): Finding {
  const hits = observer.faults.filter((f) => device === null || f.sbdf === device);
  const [first] = hits;
  const count = device === null ? observer.faultCount : hits.length;
  return { expected: 'none', found: `${count}`, ok: count === 0, ...(first ? { evidence: faultLine(first) } : {}) };
}

/** What becomes of a line that no expression in it can match is the caller's; an expression was checked when it was read. */
function matches(texts: readonly string[], regex: string): string[] {
  const expression = new RegExp(regex, 'mu');
  return texts.filter((text) => expression.test(text));
}

function counted(hits: readonly string[], atLeast: number, what: string): Finding {
  const [first] = hits;
  const expected = `${atLeast} or more ${what}`;
  return {
    expected,
    found: `${hits.length}`,
    ok: hits.length >= atLeast,
    ...(first ? { evidence: first.trim() } : {}),
  };
}

function errnoAnswered({ errno: name, of, atLeast }: Of<'errno'>, { observer }: TwinState): Finding {
  const count = observer.errors(of, -errno[name]);
  const enough = count >= atLeast;
  return {
    expected: `${atLeast} or more`,
    found: `${count}`,
    ok: enough || observer.missing === 0 ? enough : 'unknown',
  };
}

async function counter(a: Of<'counter'>, state: TwinState): Promise<Finding> {
  const value = (await state.counters()).counters[a.counter] ?? 0;
  return { expected: boundText(a), found: `${value}`, ok: within(value, a) };
}

async function guest({ guest: name, is }: Of<'guest'>, state: TwinState): Promise<Finding> {
  if (state.hypervisorKilled) {
    const ended = is === 'absent' || is === 'destroyed';
    return { expected: is, found: 'ended with the hypervisor', ok: ended };
  }
  const info = await state.domain(name);
  const found = stateWord(info);
  if (is === 'at-target') return atTarget(name, info, state);
  const existed = [...state.names.values()].includes(name);
  const ok = is === found || (is === 'absent' && info === null) || (is === 'destroyed' && info === null && existed);
  return { expected: is, found, ok };
}

function stateWord(info: DomainInfo | null): string {
  if (!info) return 'absent';
  if (isDying(info)) return 'dying';
  if (hasCrashed(info)) return 'crashed';
  return isShutdown(info) ? 'shut down' : 'running';
}

/** Running, and the balloon has come to where memory/target wants it: the kernel's own arithmetic, from its own figures. */
async function atTarget(name: string, info: DomainInfo | null, state: TwinState): Promise<Finding> {
  const expected = 'running, at its target';
  if (!info || isShutdown(info) || isDying(info)) return { expected, found: stateWord(info), ok: false };
  const { domid } = info;
  const seen = state.observer.guest(domid);
  const target = await state.memoryTarget(domid);
  if (!seen?.running || (target === null && name !== DOM0))
    return { expected, found: 'its kernel is booting', ok: false };
  const max = name === DOM0 ? null : await state.staticMax(domid);
  const never = max === null ? 0 : Math.floor(max / 4) - seen.ramPages;
  const wanted = target === null ? seen.targetPages : Math.max(0, Math.floor(target / 4) - never);
  const unit = state.twin.policies['balloon.order'] === '2m' ? SUPERPAGE_PAGES : 1;
  const ok = seen.targetPages === wanted && Math.abs(seen.currentPages - wanted) < unit;
  return { expected, found: `${seen.currentPages} pages of ${wanted}`, ok };
}

async function pod({ guest: name, entries, cache }: Of<'pod'>, state: TwinState): Promise<Finding> {
  const info = await state.domain(name);
  const expected = [entries && `entries ${boundText(entries)}`, cache && `cache ${boundText(cache)}`]
    .filter(Boolean)
    .join(', ');
  if (!info) return { expected, found: `${name} is absent`, ok: false };
  const holds = (n: number, bound: Bound | null): boolean => bound === null || within(n, bound);
  const ok = holds(info.podEntries, entries) && holds(info.podCache, cache);
  return { expected, found: `entries ${info.podEntries}, cache ${info.podCache}`, ok };
}

async function entry({ guest: name, gfn, p2m, iommu }: Of<'entry'>, state: TwinState): Promise<Finding> {
  const expected = [p2m && `p2m ${p2m}`, iommu && `IOMMU ${iommu}`].filter(Boolean).join(', ');
  if (!(await state.domain(name))) return { expected, found: `${name} is absent`, ok: false };
  const peek = await state.peek(name, gfn);
  const mapped = peek.iommu === 'mapped' || peek.iommu === 'ro' || peek.iommu === 'wo' ? 'mapped' : 'absent';
  const frame = peek.mfn < 0 ? 'no frame' : `mfn ${hexOf(peek.mfn)}`;
  const found = `p2m ${peek.p2mType} (${frame}), IOMMU ${peek.iommu}`;
  return { expected, found, ok: (p2m === null || peek.p2mType === p2m) && (iommu === null || iommu === mapped) };
}

function e820({ guest: name, rows }: Of<'e820'>, state: TwinState): Finding {
  const seen = state.observer.guests().findLast(({ domid }) => state.names.get(domid) === name);
  const expected = rows.map(rowText).join(', ');
  if (!seen?.e820) return { expected, found: `${name}'s kernel has reported no memory map`, ok: 'unknown' };
  const map = seen.e820;
  const wrong = rows.filter((row) => !hasRow(map, row));
  const found = map
    .map(({ addr, size, type }) => `${addr.toString(16)}-${(addr + size - 1).toString(16)} type ${type}`)
    .join(', ');
  return {
    expected,
    found: wrong.length === 0 ? 'all of them' : `not there: ${wrong.map(rowText).join(', ')}`,
    ok: wrong.length === 0,
    evidence: found,
  };
}

const rowText = ({ start, end, type }: E820Row): string => `${start.toString(16)}-${end.toString(16)} ${type}`;

function hasRow(map: readonly MemoryMapEntry[], { start, end, type }: E820Row): boolean {
  const wanted = E820_TYPE[type];
  if (wanted === null) return map.every(({ addr, size }) => addr > end || addr + size <= start);
  return joined(map).some((e) => e.type === wanted && e.addr === start && e.addr + e.size - 1 === end);
}

/** Neighbours of one type as one. */
function joined(map: readonly MemoryMapEntry[]): MemoryMapEntry[] {
  const whole: MemoryMapEntry[] = [];
  for (const entry of map.toSorted((a, b) => a.addr - b.addr)) {
    const last = whole.at(-1);
    if (last && last.type === entry.type && last.addr + last.size === entry.addr) {
      whole[whole.length - 1] = { ...last, size: last.size + entry.size };
    } else whole.push(entry);
  }
  return whole;
}
