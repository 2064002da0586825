// Who looks at what: the wants of all pages, their union for the hypervisor, and what each page is due. A page gets a picture when it
// has changed since it got it last, and no more than a few messages a second.
import { type LiveWant, packLooks, wantKey } from '#wire/live';

/** Between two messages of pictures to one page. */
export const LOOKS_EVERY_MS = 160;
const WANTS_PER_PAGE = 4;
/** Figures that every page gets. */
const FOR_ALL = ['pulse', 'slow'] as const;

interface Page {
  wants: ReadonlyMap<string, LiveWant>;
  /** Version of each picture that it has. */
  readonly has: Map<string, number>;
  sentAtMs: number;
}

interface Picture {
  readonly record: Uint8Array;
  readonly version: number;
}

export class Audience {
  private readonly pages = new Map<string, Page>();
  private readonly pictures = new Map<string, Picture>();
  private version = 0;

  get size(): number {
    return this.pages.size;
  }

  join(id: string): void {
    this.pages.set(id, { wants: new Map(), has: new Map(), sentAtMs: Number.NEGATIVE_INFINITY });
  }

  leave(id: string): void {
    this.pages.delete(id);
    this.forgetUnwanted();
  }

  want(id: string, wants: readonly LiveWant[]): void {
    const page = this.pages.get(id);
    if (!page) return;
    page.wants = new Map(wants.slice(0, WANTS_PER_PAGE).map((want) => [wantKey(want), want]));
    for (const key of page.has.keys()) if (!page.wants.has(key) && !isForAll(key)) page.has.delete(key);
    this.forgetUnwanted();
  }

  /** What all pages want together; those of the pages that came last count if it is too much. */
  union(max: number): LiveWant[] {
    const all = new Map<string, LiveWant>();
    for (const { wants } of [...this.pages.values()].reverse()) for (const [key, want] of wants) all.set(key, want);
    return [...all.values()].slice(0, max);
  }

  /** A picture under its key, or figures under their kind. */
  show(key: string, record: Uint8Array): void {
    if (!isForAll(key) && !this.isWanted(key)) return;
    this.pictures.set(key, { record, version: ++this.version });
  }

  /** The message that a page is due at `nowMs`; null: nothing new, or it got one just now. */
  due(id: string, nowMs: number): Uint8Array | null {
    const page = this.pages.get(id);
    if (!page || nowMs - page.sentAtMs < LOOKS_EVERY_MS) return null;
    const records: Uint8Array[] = [];
    for (const key of [...FOR_ALL, ...page.wants.keys()]) {
      const picture = this.pictures.get(key);
      if (!picture || page.has.get(key) === picture.version) continue;
      page.has.set(key, picture.version);
      records.push(picture.record);
    }
    if (records.length === 0) return null;
    page.sentAtMs = nowMs;
    return packLooks(records);
  }

  ids(): string[] {
    return [...this.pages.keys()];
  }

  /** Another hypervisor: its pictures are not the old one's. */
  clear(): void {
    this.pictures.clear();
  }

  private isWanted(key: string): boolean {
    for (const { wants } of this.pages.values()) if (wants.has(key)) return true;
    return false;
  }

  private forgetUnwanted(): void {
    for (const key of this.pictures.keys()) if (!isForAll(key) && !this.isWanted(key)) this.pictures.delete(key);
  }
}

const isForAll = (key: string): boolean => (FOR_ALL as readonly string[]).includes(key);
