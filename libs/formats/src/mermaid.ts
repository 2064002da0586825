// Messages between actors as a Mermaid sequence diagram, which GitHub and most editors draw. This file owns the text and
// what is cut from a long run: each chapter keeps its beginning, its end, and what led to a request that did not get through. It
// does not choose which messages were recorded.

export interface MessageRecord {
  readonly tsUs: number;
  readonly from: string;
  readonly to: string;
  readonly label: string;
  /** call: solid arrow; reply: dashed; event: open, nobody waits; fault: crossed, the request did not get through. */
  readonly kind: 'call' | 'reply' | 'event' | 'fault';
}

/** A part of the diagram with a heading: one twin of a run. */
export interface Chapter {
  readonly title: string;
  readonly messages: readonly MessageRecord[];
}

export interface SequenceOptions {
  /** Messages drawn at most, shared evenly by the chapters; a note stands for each row left out. */
  readonly limit?: number;
  /** What `tsUs` counts: microseconds (the default), or steps of a schedule, from 1. */
  readonly counts?: 'us' | 'steps';
}

const ARROWS = { call: '->>', reply: '-->>', event: '-)', fault: '-x' } as const;
const DEFAULT_LIMIT = 240;
const LABEL_CHARACTERS = 120;
/** Drawn before a message that did not get through. */
const LED_TO_IT = 3;

/** Text that Mermaid shows as it is: its own delimiters become entities, line ends and control characters blanks. */
function plain(text: string): string {
  const short = text.length > LABEL_CHARACTERS ? `${text.slice(0, LABEL_CHARACTERS - 1)}…` : text;
  return short
    .toWellFormed()
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .replace(/[#;%<>"&{}[\]`\\]/g, (c) => `#${c.charCodeAt(0)};`);
}

/** An actor's name must not have a colon either: it would begin a message. */
const plainActor = (name: string): string => plain(name).replaceAll(':', '#58;');

const ms = (us: number): string => `${(us / 1000).toFixed(3)} ms`;
const step = (n: number): string => `step ${n}`;

/** Which of a chapter's messages are drawn, when `room` are: half of the room for its two ends, half for faults and what led to them. */
function drawn(messages: readonly MessageRecord[], room: number): readonly boolean[] {
  const { length } = messages;
  if (length <= room) return messages.map(() => true);
  const anyFault = messages.some(({ kind }) => kind === 'fault');
  const end = Math.max(1, Math.floor(room / (anyFault ? 4 : 2)));
  const chosen = messages.map((_, i) => i < end || i >= length - end);
  let left = room - 2 * end;
  for (const [i, { kind }] of messages.entries()) {
    if (kind !== 'fault') continue;
    const missing = [...Array(LED_TO_IT + 1).keys()].map((back) => i - back).filter((at) => at >= 0 && !chosen[at]);
    if (missing.length > left) break;
    for (const at of missing) chosen[at] = true;
    left -= missing.length;
  }
  return chosen;
}

/** The diagram's text; actors stand in the order in which they first appear. */
export function sequenceDiagram(chapters: readonly Chapter[], options: SequenceOptions = {}): string {
  const room = Math.max(2, Math.floor((options.limit ?? DEFAULT_LIMIT) / Math.max(1, chapters.length)));
  const shown = chapters.map(({ title, messages }) => ({ title, messages, chosen: drawn(messages, room) }));
  const ids = new Map<string, string>();
  for (const { messages, chosen } of shown) {
    for (const { from, to } of messages.filter((_, i) => chosen[i])) {
      for (const actor of [from, to]) if (!ids.has(actor)) ids.set(actor, `a${ids.size}`);
    }
  }
  const lines = ['sequenceDiagram', '  autonumber'];
  if (ids.size === 0) lines.push('  participant a0 as no message was recorded');
  for (const [actor, id] of ids) lines.push(`  participant ${id} as ${plainActor(actor)}`);
  const over = ids.size > 1 ? `a0,a${ids.size - 1}` : 'a0';
  for (const { title, messages, chosen } of shown) {
    if (chapters.length > 1) lines.push(`  Note over ${over}: ${plain(title)}`);
    lines.push(...chapterLines(messages, chosen, ids, over, options.counts === 'steps' ? step : ms));
  }
  return `${lines.join('\n')}\n`;
}

function chapterLines(
  messages: readonly MessageRecord[],
  chosen: readonly boolean[],
  ids: ReadonlyMap<string, string>,
  over: string,
  time: (ts: number) => string,
): string[] {
  const lines: string[] = [];
  let cut: MessageRecord[] = [];
  for (const [i, message] of messages.entries()) {
    if (!chosen[i]) {
      cut.push(message);
      continue;
    }
    const [first] = cut;
    if (first) {
      const to = cut.at(-1)?.tsUs ?? first.tsUs;
      lines.push(
        `  Note over ${over}: ${cut.length} messages between ${time(first.tsUs)} and ${time(to)} are cut here`,
      );
      cut = [];
    }
    const { from, to, kind, tsUs, label } = message;
    lines.push(`  ${ids.get(from)}${ARROWS[kind]}${ids.get(to)}: ${time(tsUs)} ${plain(label)}`);
  }
  return lines;
}
