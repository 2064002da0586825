// The areas of an address space and what is behind them. Changed with mmap_lock held for writing, read with it held.
import { defineRecord } from '../../shared-memory/record.ts';

/**
 * `ram`: anonymous. `file`: page cache, written back. `vram`: a GPU's buffer object, mapped by page frame number
 * (VM_PFNMAP): no struct page, so nobody can take a reference. `grant`: another domain's pages, mapped by gntdev.
 */
export const vmaKind = { none: 0, ram: 1, file: 2, vram: 3, grant: 4 } as const;
export type VmaKind = Exclude<keyof typeof vmaKind, 'none'>;

const record = defineRecord('vma', { kind: 'i32', start: 'i32', end: 'i32', writable: 'i32', limit: 'i32' });
const VMAS = 32;

export const vmaBytes = (): number => record.bytes(VMAS);

export interface Vma {
  readonly kind: VmaKind;
  /** Pages [start, end). */
  readonly start: number;
  readonly end: number;
  readonly writable: boolean;
  /** First page past the end of the file; an access from there on is a bus error. */
  readonly limit: number;
}

const kindNames = Object.entries(vmaKind);

export class Vmas {
  private readonly all: readonly ReturnType<typeof record.view>[];

  constructor(buffer: SharedArrayBuffer) {
    this.all = Array.from({ length: VMAS }, (_, i) => record.view(buffer, i, VMAS));
  }

  private toVma({ kind, start, end, writable, limit }: (typeof this.all)[number]): Vma {
    const name = kindNames.find(([, value]) => value === kind)?.[0] as VmaKind; // stored by add(), never `none` here
    return { kind: name, start, end, writable: writable !== 0, limit };
  }

  find(page: number): Vma | null {
    const found = this.all.find(({ kind, start, end }) => kind !== vmaKind.none && page >= start && page < end);
    return found ? this.toVma(found) : null;
  }

  list(): Vma[] {
    return this.all.filter(({ kind }) => kind !== vmaKind.none).map((view) => this.toVma(view));
  }

  /** False: it overlaps another one, or there are too many. */
  add({ kind, start, end, writable, limit }: Vma): boolean {
    if (this.list().some((vma) => start < vma.end && end > vma.start)) return false;
    const view = this.all.find((candidate) => candidate.kind === vmaKind.none);
    if (!view) return false;
    view.start = start;
    view.end = end;
    view.writable = writable ? 1 : 0;
    view.limit = limit;
    view.kind = vmaKind[kind];
    return true;
  }

  private view(start: number): (typeof this.all)[number] | undefined {
    return this.all.find((view) => view.kind !== vmaKind.none && view.start === start);
  }

  setLimit(start: number, limit: number): void {
    const view = this.view(start);
    if (view) view.limit = limit;
  }

  remove(start: number): void {
    const view = this.view(start);
    if (view) view.kind = vmaKind.none;
  }
}
