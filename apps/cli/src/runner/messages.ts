// A run's hypercalls and DMA faults as messages between actors, for the sequence diagram. Owns how a call reads as one line and
// that a caller's row of like calls is one message with a count, so that a build's hundreds do not hide what happened around them.
import type { MessageRecord } from '#formats/mermaid';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { errnoName } from '#model/hypercall/errno';
import { type HistoryRecord, opOf } from './records.ts';
import { guestName } from './telling.ts';
import { DOM0, type TwinState } from './twin-state.ts';

const ARGUMENTS_MAX = 60;
const FAULTS_DRAWN = 12;

interface Message extends MessageRecord {
  /** Messages of one row have the same. */
  readonly row: string;
}

/** The calls kept of a twin and its first faults, in order of time; `offsetUs` puts twins one after the other. */
export function messagesOf(state: TwinState, offsetUs: number): MessageRecord[] {
  const { firstCalls, lastCalls, faults } = state.observer;
  const at = (tsUs: number): number => Math.max(0, tsUs - state.startedUs + offsetUs);
  const calls = [...firstCalls, ...lastCalls].flatMap((record) => callMessage(state, record, at(record.tsUs)));
  const refused = faults.slice(0, FAULTS_DRAWN).map(({ tsUs, sbdf, dfn, write }): Message => {
    const from = `device ${formatSbdf(sbdf as Sbdf)}`; // as the hypervisor wrote it
    const label = `DMA ${write ? 'write' : 'read'} to ${(dfn * 4096).toString(16)}`;
    return { tsUs: at(tsUs), from, to: 'IOMMU', label, kind: 'fault', row: `${from} ${label}` };
  });
  return folded([...calls, ...refused].sort((a, b) => a.tsUs - b.tsUs));
}

function callMessage(state: TwinState, record: HistoryRecord, tsUs: number): Message[] {
  const op = opOf(record);
  if (op === null) return [];
  const who = record.domid === 0 ? DOM0 : guestName(state, record.domid);
  const from = `${who} vcpu ${record.vcpu}`;
  const rc = record.answer?.rc ?? 0;
  const label = `${op}${argumentsText(record.call ?? {})} = ${rc < 0 ? `-${errnoName(rc)}` : rc}`;
  return [{ tsUs, from, to: 'Xen', label, kind: rc < 0 ? 'fault' : 'call', row: `${from} ${op} ${Math.min(rc, 0)}` }];
}

/** `(domid=1 order=9 …)`; a list or a packed array is named by its size. */
function argumentsText(call: Readonly<Record<string, unknown>>): string {
  const shown = Object.entries(call)
    .filter(([name]) => name !== 'op')
    .map(([name, value]) => (name === 'cut' ? '…' : `${name}=${valueText(value)}`))
    .join(' ');
  if (shown === '') return '';
  return `(${shown.length > ARGUMENTS_MAX ? `${shown.slice(0, ARGUMENTS_MAX - 1)}…` : shown})`;
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return `${value.length} of them`;
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([name, part]) => `${name} ${typeof part === 'object' ? '…' : part}`)
    .join(' ');
}

/** Like calls of one vCPU that follow one another, with nothing of another actor between, become the first of them. */
function folded(messages: readonly Message[]): MessageRecord[] {
  const rows: { message: Message; count: number }[] = [];
  for (const message of messages) {
    const last = rows.at(-1);
    if (last?.message.row === message.row) last.count++;
    else rows.push({ message, count: 1 });
  }
  return rows.map(({ message: { row: _, ...message }, count }) =>
    count === 1 ? message : { ...message, label: `${message.label} ×${count} alike` },
  );
}
