// Places for lent memory in a borrower's address space. A window is opened by the lender, as KVM's user space makes a memory slot;
// opening it makes all the tables that lending and revoking there will ever need, so that neither allocates. It has one lender,
// one page size, and a sequence number that every revocation moves on: whoever looked a frame up before a revocation does not
// get to lend it after (linux-guest fact sheet 4.4, step 6). All of it under the borrower's p2m lock.
import type { Domain } from '../domain/domain.ts';
import { domainRecord, LEND_WINDOW_CELLS, MAX_LEND_WINDOWS } from '../domain/domain-record.ts';
import type { Order } from '../frames/addresses.ts';

/** `opening` and `closing`: entries are being made or taken away, nothing can be lent. */
export const windowState = { opening: 0, open: 1, closing: 2 } as const;
/** What a borrower gets when its lender cannot give the page any more. */
export const onFailure = { zeroPage: 0, fault: 1 } as const;

/** First gfn + 1; 0 = no window. */
const FIRST = 0;
const COUNT = 1;
const ORDER = 2;
const LENDER = 3;
const INCARNATION = 4;
const STATE = 5;
const SEQUENCE = 6;
const ON_FAILURE = 7;

export class LendWindow {
  private readonly cells: Float64Array<SharedArrayBuffer>;

  constructor(d: Domain, index: number) {
    this.cells = d.r.lendWindows.subarray(index * LEND_WINDOW_CELLS, (index + 1) * LEND_WINDOW_CELLS);
  }

  get used(): boolean {
    return this.cells[FIRST] !== 0;
  }
  get first(): number {
    return (this.cells[FIRST] as number) - 1;
  }
  /** In 4K pages. */
  get count(): number {
    return this.cells[COUNT] as number;
  }
  get last(): number {
    return this.first + this.count - 1;
  }
  /** Of every leaf in it: 0 or 9. */
  get order(): Order {
    return this.cells[ORDER] as number;
  }
  get lender(): number {
    return this.cells[LENDER] as number;
  }
  get state(): number {
    return this.cells[STATE] as number;
  }
  set state(value: number) {
    this.cells[STATE] = value;
  }
  get onFailure(): number {
    return this.cells[ON_FAILURE] as number;
  }
  /** An integer that a double holds exactly; compared for equality only, so that it may wrap. */
  get sequence(): number {
    return this.cells[SEQUENCE] as number;
  }

  open(first: number, count: number, order: Order, lender: Domain, failure: number): void {
    this.cells[COUNT] = count;
    this.cells[ORDER] = order;
    this.cells[LENDER] = lender.domid;
    this.cells[INCARNATION] = lender.r.incarnation;
    this.cells[STATE] = windowState.opening;
    this.cells[SEQUENCE] = 0;
    this.cells[ON_FAILURE] = failure;
    this.cells[FIRST] = first + 1;
  }

  /** A revocation begins. */
  moveOn(): void {
    this.sequenceTo(this.sequence === Number.MAX_SAFE_INTEGER ? 0 : this.sequence + 1);
  }

  /** For specs that want to stand near a wrap. */
  sequenceTo(value: number): void {
    this.cells[SEQUENCE] = value;
  }

  isOf(lender: Domain): boolean {
    return this.used && this.lender === lender.domid && this.cells[INCARNATION] === lender.r.incarnation;
  }

  /** Its first pages are no part of it any more. */
  shrink(pages: number): void {
    this.cells[FIRST] = (this.cells[FIRST] as number) + pages;
    this.cells[COUNT] = this.count - pages;
  }

  remove(): void {
    this.cells.fill(0);
  }
}

/** All windows of a borrower. */
export function windowsOf(d: Domain): LendWindow[] {
  const all: LendWindow[] = [];
  for (let i = 0; i < MAX_LEND_WINDOWS; i++) {
    if (d.r.lendWindows[i * LEND_WINDOW_CELLS] !== 0) all.push(new LendWindow(d, i));
  }
  return all;
}

export const hasWindows = (d: Domain): boolean => windowsOf(d).length > 0;

/** A free place for a window, or null. */
export function freeWindow(d: Domain): LendWindow | null {
  for (let i = 0; i < MAX_LEND_WINDOWS; i++) {
    if (d.r.lendWindows[i * LEND_WINDOW_CELLS] === 0) return new LendWindow(d, i);
  }
  return null;
}

/** The window that holds all of [first, last], or null. */
export function windowAt(d: Domain, first: number, last = first): LendWindow | null {
  return windowsOf(d).find((w) => w.first <= first && last <= w.last) ?? null;
}

/** Something changed that a vCPU of `d` may wait for. */
export function announce(d: Domain): void {
  Atomics.add(d.r.words, domainRecord.at.lendEvents, 1);
}

export const eventsSeen = (d: Domain): number => Atomics.load(d.r.words, domainRecord.at.lendEvents);
