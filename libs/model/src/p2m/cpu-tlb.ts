// What each pCPU caches of the p2m: a TLB of leaves and a paging-structure cache of last-level tables, in shared memory but
// only ever read and filled by their own CPU (invariants look at them at safepoints). Another CPU invalidates by setting
// this CPU's bit in the domain's mask; the CPU drops everything of the domain at its next VM entry.
//
// Why no stale translation survives a flush: the flusher sets the bit and then looks whether the CPU is in guest mode; the
// CPU enters guest mode and then looks at the bit. Both are sequentially consistent, so one of them sees the other.
import type { Domain } from '../domain/domain.ts';
import { domainRecord } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';

const TLB_ENTRIES = 1024;
const WALK_ENTRIES = 64;
/** Doubles per CPU: key and slot per TLB entry; key, table and generation per walk-cache entry. */
const DOUBLES = TLB_ENTRIES * 2 + WALK_ENTRIES * 3;
/** Words per CPU: guest-mode sequence (odd = in guest mode), slot of the domain in it, sleepers on the sequence. */
const WORDS = 4;
const SLEEPERS = 2;

export class CpuTlbs {
  static bytes(cpus: number): number {
    return cpus * (DOUBLES * 8 + WORDS * 4);
  }

  private readonly doubles: Float64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, cpus: number) {
    this.doubles = new Float64Array(buffer, 0, cpus * DOUBLES);
    this.words = new Int32Array(buffer, cpus * DOUBLES * 8, cpus * WORDS);
  }

  /** VM entry: after it the CPU may use its cache of `d`. Carries out a flush that is due. */
  enter(cpu: number, d: Domain): void {
    this.words[cpu * WORDS + 1] = d.slot;
    Atomics.add(this.words, cpu * WORDS, 1);
    const index = domainRecord.at.invalidate + (cpu >> 5);
    const bit = 1 << (cpu & 31);
    if ((Atomics.load(d.r.words, index) & bit) !== 0) {
      Atomics.and(d.r.words, index, ~bit);
      this.dropDomain(cpu, d.slot);
    }
  }

  /** VM exit. */
  exit(cpu: number): void {
    Atomics.add(this.words, cpu * WORDS, 1);
    if (Atomics.load(this.words, cpu * WORDS + SLEEPERS) !== 0) Atomics.notify(this.words, cpu * WORDS);
  }

  requestFlush(d: Domain, pcpus: number): void {
    for (let first = 0; first < pcpus; first += 32) {
      const mask = pcpus - first >= 32 ? -1 : (1 << (pcpus - first)) - 1;
      Atomics.or(d.r.words, domainRecord.at.invalidate + (first >> 5), mask);
    }
  }

  /** Until every pCPU that was in guest mode of `d` has left it once. */
  waitForExits(h: Host, d: Domain): void {
    for (let cpu = 0; cpu < h.config.pcpus; cpu++) {
      if (cpu === h.cpu) continue;
      const index = cpu * WORDS;
      const sequence = Atomics.load(this.words, index);
      if (sequence % 2 === 0 || this.words[index + 1] !== d.slot) continue;
      for (let spin = 0; spin < 2000 && Atomics.load(this.words, index) === sequence; spin++);
      if (Atomics.load(this.words, index) === sequence) {
        Atomics.add(this.words, index + SLEEPERS, 1);
        h.lockTable.waitUntil(
          this.words,
          index,
          () => `cpu${cpu} to leave guest mode of d${d.domid}`,
          () => Atomics.load(this.words, index) !== sequence,
        );
        Atomics.sub(this.words, index + SLEEPERS, 1);
      }
    }
  }

  private dropDomain(cpu: number, slot: number): void {
    const base = cpu * DOUBLES;
    for (let i = 0; i < TLB_ENTRIES; i++) {
      if (Math.floor((this.doubles[base + i * 2] as number) / 2 ** 40) === slot + 1) this.doubles[base + i * 2] = 0;
    }
    const walk = base + TLB_ENTRIES * 2;
    for (let i = 0; i < WALK_ENTRIES; i++) {
      if (Math.floor((this.doubles[walk + i * 3] as number) / 2 ** 40) === slot + 1) this.doubles[walk + i * 3] = 0;
    }
  }

  private key(slot: number, frame: number): number {
    return (slot + 1) * 2 ** 40 + frame;
  }

  /** The 4K leaf slot cached for a gfn, or 0. */
  lookup(cpu: number, slot: number, g: number): number {
    const at = cpu * DOUBLES + (g % TLB_ENTRIES) * 2;
    return this.doubles[at] === this.key(slot, g) ? (this.doubles[at + 1] as number) : 0;
  }

  fill(cpu: number, slot: number, g: number, leaf: number): void {
    const at = cpu * DOUBLES + (g % TLB_ENTRIES) * 2;
    this.doubles[at] = this.key(slot, g);
    this.doubles[at + 1] = leaf;
  }

  /** Index in `doubles` of the cached last-level table for a gfn, or -1. */
  lookupTable(cpu: number, slot: number, g: number): number {
    const region = Math.floor(g / 512);
    const at = cpu * DOUBLES + TLB_ENTRIES * 2 + (region % WALK_ENTRIES) * 3;
    return this.doubles[at] === this.key(slot, region) ? at : -1;
  }

  tableAt(at: number): { table: number; generation: number } {
    return { table: this.doubles[at + 1] as number, generation: this.doubles[at + 2] as number };
  }

  dropTable(at: number): void {
    this.doubles[at] = 0;
  }

  fillTable(cpu: number, slot: number, g: number, table: number, generation: number): void {
    const region = Math.floor(g / 512);
    const at = cpu * DOUBLES + TLB_ENTRIES * 2 + (region % WALK_ENTRIES) * 3;
    this.doubles[at] = this.key(slot, region);
    this.doubles[at + 1] = table;
    this.doubles[at + 2] = generation;
  }

  /** All live TLB entries of a pCPU: for invariants at a safepoint. */
  *entries(cpu: number): Generator<{ slot: number; gfn: number; leaf: number }> {
    const base = cpu * DOUBLES;
    for (let i = 0; i < TLB_ENTRIES; i++) {
      const key = this.doubles[base + i * 2] as number;
      if (key === 0) continue;
      const owner = Math.floor(key / 2 ** 40);
      yield { slot: owner - 1, gfn: key - owner * 2 ** 40, leaf: this.doubles[base + i * 2 + 1] as number };
    }
  }

  /** All live entries of its paging-structure cache: a last-level table for each 2M region. */
  *tables(cpu: number): Generator<{ slot: number; region: number; table: number }> {
    const base = cpu * DOUBLES + TLB_ENTRIES * 2;
    for (let i = 0; i < WALK_ENTRIES; i++) {
      const key = this.doubles[base + i * 3] as number;
      if (key === 0) continue;
      const owner = Math.floor(key / 2 ** 40);
      yield { slot: owner - 1, region: key - owner * 2 ** 40, table: this.doubles[base + i * 3 + 1] as number };
    }
  }
}
