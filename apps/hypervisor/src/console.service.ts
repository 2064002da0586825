// The hypervisor's console: Xen's ring as `xl dmesg` reads it, in the order in which the lines were printed on whatever thread.
// Lines arrive in batches; a gap in their numbers is waited for briefly. Hands lines on to the run directory and the stream.
import { Injectable } from '@nestjs/common';
import type { ConsoleLine } from './pcpu/work.ts';

/** Characters kept. Xen's default ring is smaller; a run's dmesg should be whole. */
const RING_CHARS = 4 * 2 ** 20;
const READ_CHARS = 64 * 1024;
/** A thread may sit on its lines while it waits for a lock; the others' are not held back longer than this. */
const GAP_MS = 200;

export type ConsoleSink = (lines: readonly string[]) => void;

@Injectable()
export class ConsoleService {
  private text = '';
  /** Characters that fell out of the ring. */
  private dropped = 0;
  private nextSequence = 0;
  private early = new Map<number, string>();
  private gapTimer: NodeJS.Timeout | null = null;
  private readonly sinks: ConsoleSink[] = [];

  /** `sink` gets every line from now on, with its prefix. */
  onLines(sink: ConsoleSink): void {
    this.sinks.push(sink);
  }

  take(lines: readonly ConsoleLine[]): void {
    // What was given up as missing and comes late is printed now: out of order, but not lost.
    const late = lines.filter(([sequence]) => sequence < this.nextSequence);
    if (late.length > 0) this.append(late.map(([, text]) => `(XEN) ${text}`));
    for (const [sequence, text] of lines) if (sequence >= this.nextSequence) this.early.set(sequence, text);
    this.advance();
    if (this.early.size > 0 && !this.gapTimer) {
      this.gapTimer = setTimeout(() => this.skipGap(), GAP_MS).unref();
    }
  }

  /** Everything that has arrived, gap or not (shutdown, panic). */
  drain(): void {
    while (this.early.size > 0) this.skipGap();
  }

  /** `readconsole`: from an absolute position; what fell out of the ring is skipped. */
  read(from: number): { text: string; next: number } {
    const start = Math.max(0, from - this.dropped);
    const text = this.text.slice(start, start + READ_CHARS);
    return { text, next: this.dropped + Math.min(start, this.text.length) + text.length };
  }

  private advance(): void {
    const ready: string[] = [];
    for (;;) {
      const line = this.early.get(this.nextSequence);
      if (line === undefined) break;
      this.early.delete(this.nextSequence++);
      ready.push(`(XEN) ${line}`);
    }
    if (this.early.size === 0 && this.gapTimer) {
      clearTimeout(this.gapTimer);
      this.gapTimer = null;
    }
    if (ready.length > 0) this.append(ready);
  }

  private skipGap(): void {
    this.gapTimer = null;
    if (this.early.size === 0) return;
    let first = Number.POSITIVE_INFINITY;
    for (const sequence of this.early.keys()) first = Math.min(first, sequence);
    this.nextSequence = first;
    this.advance();
    if (this.early.size > 0) this.gapTimer = setTimeout(() => this.skipGap(), GAP_MS).unref();
  }

  private append(lines: readonly string[]): void {
    this.text += `${lines.join('\n')}\n`;
    const over = this.text.length - RING_CHARS;
    // Cut rarely: each cut copies.
    if (over > RING_CHARS / 4) {
      this.text = this.text.slice(over);
      this.dropped += over;
    }
    for (const sink of this.sinks) sink(lines);
  }
}
