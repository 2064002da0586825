// A program that uses memory: it keeps frames, stores a tag into each, and on the next round verifies that the tag is still
// there before it stores another. It takes 2M runs while there are some (transparent huge pages), then single pages.
import type { Call, Extents } from '../hypercall/calls.ts';
import { type PageState, pageState } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import type { MemoryWorkloadSpec } from './guest-spec.ts';
import { type Task, type TaskContext, tagOf } from './task.ts';

const CHUNK = 512;
/** Chunks of one slice: one multicall. */
const SLICE = 8;
const PAGES_PER_MB = 256;

interface Chunk {
  readonly extents: Extents;
  readonly frames: readonly number[];
}

export class MemoryWorkload implements Task {
  readonly id: string;
  private readonly c: TaskContext;
  private readonly spec: MemoryWorkloadSpec;
  private readonly chunks: Chunk[] = [];
  private wanted: number;
  private next = 0;
  private round = 0;

  constructor(context: TaskContext, spec: MemoryWorkloadSpec) {
    this.id = spec.id;
    this.c = context;
    this.spec = spec;
    this.wanted = spec.mb * PAGES_PER_MB;
  }

  step(now: number): number {
    if (this.wanted > 0) this.grow(SLICE);
    const slice = this.chunks.slice(this.next, this.next + SLICE);
    if (slice.length === 0) return this.wanted > 0 ? now : Number.POSITIVE_INFINITY;
    if (this.spec.verify && this.round > 0) this.verify(slice);
    this.store(slice);
    this.next += slice.length;
    if (this.next >= this.chunks.length && this.wanted === 0) this.endRound();
    if (this.spec.framesPerSecond === 0) return now;
    return now + (slice.length * CHUNK * 1000) / this.spec.framesPerSecond;
  }

  private endRound(): void {
    const frames = this.chunks.reduce((sum, chunk) => sum + chunk.frames.length, 0);
    this.next = 0;
    this.round++;
    this.c.sink.event('memoryRound', { id: this.id, frames, rounds: this.round });
  }

  /** Frames come a few chunks at a time, as a process faults its memory in. Short of RAM it makes do with what it has. */
  private grow(count: number): void {
    const { memory, sink } = this.c;
    for (let i = 0; i < count && this.wanted > 0; i++) {
      const chunk = this.allocChunk();
      if (chunk === null) {
        const text = `out of memory, ${this.wanted} pages short`;
        sink.event('workload', { id: this.id, state: 'failed', text });
        this.wanted = 0;
        return;
      }
      this.chunks.push(chunk);
      this.wanted -= chunk.frames.length;
      memory.markTouched(chunk.frames);
    }
  }

  private allocChunk(): Chunk | null {
    const { memory } = this.c;
    const used: PageState = pageState.used;
    // The kernel keeps its reserve; a program only gets what is above it.
    const room = Math.min(this.wanted, memory.availablePages, CHUNK);
    const start = room === CHUNK ? memory.allocRun(used) : -1;
    if (start >= 0) {
      return { extents: { start, count: CHUNK }, frames: Array.from({ length: CHUNK }, (_, i) => start + i) };
    }
    const frames = memory.allocPages(room, used);
    return frames.length === 0 ? null : { extents: { frames: Uint32Array.from(frames) }, frames };
  }

  private tag(chunk: number, round: number): number {
    return tagOf(this.c.seed, chunk, round);
  }

  private store(slice: readonly Chunk[]): void {
    const first = this.next;
    const calls = slice.map(
      ({ extents }, i): Call => ({ op: 'store', frames: extents, tag: this.tag(first + i, this.round) }),
    );
    for (const answer of this.c.port.multicall(calls)) {
      const faulted = 'faulted' in answer ? (answer.faulted ?? 0) : 0;
      if (faulted > 0) this.c.sink.event('ramMissing', { id: this.id, faulted });
    }
  }

  private verify(slice: readonly Chunk[]): void {
    const first = this.next;
    const tags = slice.map((_, i) => this.tag(first + i, this.round - 1));
    const calls = slice.map(({ extents }, i): Call => ({ op: 'verify', frames: extents, tag: tags[i] as number }));
    this.c.port.multicall(calls).forEach((answer, i) => {
      if (!('bad' in answer) || !answer.bad) return;
      const { bad, firstBad = -1, found = 0 } = answer;
      this.c.sink.event('noWriteLost', { id: this.id, gfn: firstBad, expected: tags[i] as number, found, bad });
      if (this.spec.onCorruption === 'panic') {
        throw new GuestPanic(
          `memory corruption: ${bad} frames from gfn 0x${firstBad.toString(16)} on hold foreign data`,
        );
      }
    });
  }

  stop(): void {
    for (const chunk of this.chunks.splice(0)) this.c.memory.freePages(chunk.frames);
    this.wanted = 0;
    this.next = 0;
  }
}
