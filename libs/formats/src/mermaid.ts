// Messages between actors as a Mermaid sequence diagram, which GitHub and most editors draw. This file owns the text and
// what is cut from a long run; it does not choose which messages were recorded.

export interface MessageRecord {
  readonly tsUs: number;
  readonly from: string;
  readonly to: string;
  readonly label: string;
  /** call: solid arrow; reply: dashed; event: open, nobody waits; fault: crossed, the request did not get through. */
  readonly kind: 'call' | 'reply' | 'event' | 'fault';
}

export interface SequenceOptions {
  /** Messages drawn at most: the first and the last of the run; a note stands for the rest. */
  readonly limit?: number;
}

const ARROWS = { call: '->>', reply: '-->>', event: '-)', fault: '-x' } as const;
const DEFAULT_LIMIT = 240;
const LABEL_CHARACTERS = 120;

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

/** The diagram's text; actors stand in the order in which they first appear. */
export function sequenceDiagram(messages: readonly MessageRecord[], options: SequenceOptions = {}): string {
  const limit = Math.max(2, options.limit ?? DEFAULT_LIMIT);
  const cut = Math.max(0, messages.length - limit);
  const head = messages.slice(0, cut > 0 ? Math.ceil(limit / 2) : messages.length);
  const tail = cut > 0 ? messages.slice(messages.length - Math.floor(limit / 2)) : [];

  const ids = new Map<string, string>();
  for (const { from, to } of [...head, ...tail]) {
    for (const actor of [from, to]) if (!ids.has(actor)) ids.set(actor, `a${ids.size}`);
  }
  const arrow = (m: MessageRecord): string =>
    `  ${ids.get(m.from)}${ARROWS[m.kind]}${ids.get(m.to)}: ${ms(m.tsUs)} ${plain(m.label)}`;

  const lines = ['sequenceDiagram', '  autonumber'];
  for (const [actor, id] of ids) lines.push(`  participant ${id} as ${plainActor(actor)}`);
  lines.push(...head.map(arrow));
  if (cut > 0) {
    const from = messages[head.length]?.tsUs ?? 0;
    const to = messages[messages.length - tail.length - 1]?.tsUs ?? from;
    const actors = [...ids.values()];
    const over = actors.length > 1 ? `${actors[0]},${actors.at(-1)}` : actors[0];
    lines.push(`  Note over ${over}: ${cut} messages between ${ms(from)} and ${ms(to)} are cut here`);
  }
  lines.push(...tail.map(arrow));
  if (messages.length === 0) lines.push('  participant a0 as no message was recorded');
  return `${lines.join('\n')}\n`;
}
