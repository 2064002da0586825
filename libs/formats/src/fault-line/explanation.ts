// A line about a fault or a refusal, explained: what it says, where its address lies, why it happened and what to do. Owns the choice
// of the cause among the rules, and the text a person reads.
import { type Cause, type CauseRule, causeOf, type Evidence } from './cause.ts';
import { dmaCauses, isInKnownGuest } from './dma-causes.ts';
import { type FaultContext, placeOf, type ReservedRange } from './fault-context.ts';
import type { FaultEvent } from './fault-event.ts';
import { readFaultLines } from './fault-line.ts';
import { listedRmrrCauses, platformCauses } from './platform-causes.ts';
import { refusalCauses } from './refusal-causes.ts';

export interface Explanation {
  readonly event: FaultEvent;
  /** Where the address lies, as sentences; empty without an address. */
  readonly address: readonly string[];
  readonly cause: Cause;
  /** What else would leave this line. */
  readonly alsoPossible: readonly Cause[];
}

export interface Explained {
  readonly explanations: readonly Explanation[];
  readonly unread: readonly { readonly line: number; readonly text: string }[];
  readonly complaints: readonly string[];
}

const OTHERS = 2;

export function explainLines(text: string, given: FaultContext): Explained {
  const { events, unread, problems } = readFaultLines(text);
  const context = { ...given, reserved: [...given.reserved, ...rangesNamed(events)] };
  return {
    explanations: events.map((event) => explain(event, context)),
    unread,
    complaints: problems.map(({ line, message }) => `line ${line}: ${message}`),
  };
}

/** Ranges that the lines themselves name are known as well. */
const rangesNamed = (events: readonly FaultEvent[]): ReservedRange[] =>
  events.flatMap(({ kind, range }) =>
    range !== null && kind.startsWith('rmrr-')
      ? [{ ...range, devices: [], place: 'another line', notReserved: kind === 'rmrr-not-reserved' }]
      : [],
  );

function explain(event: FaultEvent, context: FaultContext): Explanation {
  const place = event.address === null ? null : placeOf(event.address, context);
  const evidence: Evidence = { event, context, place };
  const fitting = rulesFor(event).filter((rule) => rule.when(evidence));
  const [first, ...rest] = fitting.map((rule) => causeOf(rule, evidence));
  if (first === undefined) throw new Error(`no cause for ${event.kind}: ${event.text}`);
  const others = rest.filter(
    ({ code }, i) => code !== first.code && rest.findIndex((other) => other.code === code) === i,
  );
  // What the reason or the tables decide leaves no room for guesses.
  const open = event.kind === 'dma-fault' && !decided(evidence);
  return {
    event,
    address: event.kind === 'dma-fault' ? (place?.sentences ?? wideSentences(event)) : [],
    cause: first,
    alsoPossible: open ? others.filter(({ code }) => code !== 'NOT-MAPPED').slice(0, OTHERS) : [],
  };
}

const wideSentences = ({ wideAddress }: FaultEvent): string[] =>
  wideAddress === null ? [] : [`address ${wideAddress} lies beyond every guest's memory and every host's RAM`];

const DECIDING_REASONS_BELOW = 5;

const decided = (evidence: Evidence): boolean => isInKnownGuest(evidence) || decidedByHost(evidence);

const decidedByHost = ({ event, place }: Evidence): boolean =>
  event.wideAddress !== null ||
  place?.range != null ||
  place?.host === 'above-ram' ||
  (event.reason !== null && (event.reason < DECIDING_REASONS_BELOW || event.reason > DECIDING_REASONS_BELOW + 1));

function rulesFor(event: FaultEvent): readonly CauseRule[] {
  if (event.kind === 'dma-fault') return dmaCauses;
  if (event.kind === 'rmrr-listed') return listedRmrrCauses;
  const rule = refusalCauses[event.kind] ?? platformCauses[event.kind];
  return rule === undefined ? [] : [rule];
}

const upper = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export function explanationText({ event, address, cause, alsoPossible }: Explanation, context: FaultContext): string {
  const name = event.device === null ? undefined : context.names.get(event.device);
  const lines = [
    `${event.by === 'a report' ? '' : `${event.by}: `}${event.text}`,
    `  what     ${whatText(event)}${name === undefined ? '' : ` (${name})`}`,
    ...address.map((sentence) => `  address  ${upper(sentence)}.`),
    `  cause    [${cause.code}] ${upper(cause.text)}.`,
    ...cause.remedies.map((remedy) => `  do       ${remedy}`),
    ...alsoPossible.map((other) => `  or       [${other.code}] ${upper(other.text)}.`),
  ];
  return lines.join('\n');
}

function whatText({ kind, device, access, address, wideAddress, reason, detail, domain, range }: FaultEvent): string {
  const parts: string[] = [kind];
  if (device !== null) parts.push(`device ${device}`);
  if (access !== null) parts.push(access);
  if (address !== null) parts.push(`address ${address.toString(16)}`);
  if (wideAddress !== null) parts.push(`address ${wideAddress}`);
  if (range !== null) parts.push(`range ${range.base.toString(16)}-${range.limit.toString(16)}`);
  if (domain !== null) parts.push(`domain ${domain}`);
  if (reason !== null)
    parts.push(`reason ${reason.toString(16).padStart(2, '0')}${detail === null ? '' : ` (${detail})`}`);
  return parts.join(', ');
}
