// What the actors' threads have to say about a schedule, in shared memory: violations, console lines, exceptions, changes. Only
// whoever has the baton writes, the coordinator reads when the schedule has ended. A record is its length and its JSON.
import { type Control, word } from './control.ts';

export interface SaidViolation {
  readonly is: 'violation';
  readonly actor: number;
  /** Events before it. */
  readonly at: number;
  readonly invariant: string;
  readonly text: string;
  readonly evidence: Readonly<Record<string, number | string>>;
}

export interface SaidError {
  readonly is: 'error';
  readonly actor: number;
  readonly at: number;
  /** The host itself found that it is broken. */
  readonly panic: boolean;
  readonly message: string;
  readonly stack: string;
}

export interface SaidLine {
  readonly is: 'line';
  readonly at: number;
  readonly actor: number;
  readonly text: string;
}

/** What the event `of` changed, a sentence each. */
export interface SaidChanges {
  readonly is: 'changes';
  readonly of: number;
  readonly actor: number;
  readonly changes: readonly string[];
  /** Locks that the actor of it holds now. */
  readonly held: string;
}

/** What an operation was answered. */
export interface SaidAnswer {
  readonly is: 'answer';
  readonly actor: number;
  readonly text: string;
}

export type Said = SaidViolation | SaidError | SaidLine | SaidChanges | SaidAnswer;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const HEADER = 4;

/** Beyond the room there is, nothing is kept: a schedule that says so much has said enough. */
export function say(control: Control, said: Said): void {
  const bytes = encoder.encode(JSON.stringify(said));
  const at = control.get(word.mailBytes);
  if (at + HEADER + bytes.length > control.mail.length) return;
  new DataView(control.mail.buffer, control.mail.byteOffset).setUint32(at, bytes.length);
  control.mail.set(bytes, at + HEADER);
  control.words[word.mailBytes] = at + HEADER + bytes.length;
}

export function readMail(control: Control): Said[] {
  const end = control.get(word.mailBytes);
  const view = new DataView(control.mail.buffer, control.mail.byteOffset);
  const all: Said[] = [];
  for (let at = 0; at < end; ) {
    const length = view.getUint32(at);
    const text = decoder.decode(control.mail.slice(at + HEADER, at + HEADER + length));
    all.push(JSON.parse(text) as Said); // `say` wrote it
    at += HEADER + length;
  }
  return all;
}
