// Steps on frames: who owns one, how many references it has, what it holds, whether it lies in a PoD cache.
import { PaperBase } from './base.ts';
import { frameField, size } from './memory.ts';

/** Xen's own, where an owner is asked for. */
export const XEN = -1;
export const NOBODY = -2;

const rightsOf: Readonly<Record<Rights, number>> = { r: 1, rw: 3 };
export type Rights = 'r' | 'rw';
export const rightsNumber = (rights: Rights): number => rightsOf[rights];
export const mayWrite = (rights: number): boolean => (rights & 2) !== 0;

export const whose = (owner: number): string => (owner === NOBODY ? 'nobody' : owner === XEN ? 'Xen' : `d${owner}`);

export class FrameSteps extends PaperBase {
  /** A domain's number, XEN or NOBODY. */
  lookOwner(f: number): number {
    return this.memory.get(this.memory.frame(f) + frameField.owner) - 2;
  }
  lookRefs(f: number): number {
    return this.memory.get(this.memory.frame(f) + frameField.refs);
  }
  /** What is in the frame: as caches have it, or as memory does. */
  lookTag(f: number, where: 'cache' | 'memory' = 'cache'): number {
    return this.memory.get(this.memory.frame(f) + (where === 'cache' ? frameField.tag : frameField.memoryTag));
  }
  /** Both copies; `where`: only that one. */
  putTag(f: number, tag: number, where?: 'cache' | 'memory'): void {
    const at = this.memory.frame(f);
    if (where !== 'memory') this.memory.set(at + frameField.tag, tag);
    if (where !== 'cache') this.memory.set(at + frameField.memoryTag, tag);
  }
  putOwner(f: number, owner: number): void {
    this.memory.set(this.memory.frame(f) + frameField.owner, owner + 2);
  }
  putRefs(f: number, refs: number): void {
    this.memory.set(this.memory.frame(f) + frameField.refs, refs);
  }
  /** The frame may be reached by that domain though another owns it: a grant, a foreign mapping. */
  putLent(f: number, domain: number | null): void {
    this.memory.set(this.memory.frame(f) + frameField.lentTo, domain === null ? 0 : domain + 1);
  }
  /** May a CPU or device of that domain be in this frame now? */
  lookReachable(f: number, domain: number): boolean {
    return this.lookOwner(f) === domain || this.memory.get(this.memory.frame(f) + frameField.lentTo) === domain + 1;
  }

  /** The heap gives a frame that nobody has to a domain (or XEN), with one reference. */
  frameAlloc(f: number, owner: number): boolean {
    return (
      this.step('frameAlloc', `frame ${f} for ${whose(owner)}`, () => {
        if (this.lookOwner(f) !== NOBODY) throw new Error(`frame ${f} is not free: ${whose(this.lookOwner(f))} has it`);
        this.putOwner(f, owner);
        this.putRefs(f, 1);
        return true;
      }) ?? false
    );
  }

  /** The frame leaves its owner; anybody may have it from now on. */
  frameFree(f: number): void {
    this.step('frameFree', `frame ${f}`, () => this.freed(f));
  }

  private freed(f: number): void {
    this.putOwner(f, NOBODY);
    this.putRefs(f, 0);
    this.putLent(f, null);
  }

  /** A reference for a domain's frame; false: it has none left, or another owner. */
  refTake(f: number, domain: number): boolean {
    return (
      this.step('refTake', `frame ${f} of ${whose(domain)}`, () => {
        if (this.lookRefs(f) === 0 || this.lookOwner(f) !== domain) return false;
        this.putRefs(f, this.lookRefs(f) + 1);
        return true;
      }) ?? false
    );
  }

  /** At zero the frame is free. Answers how many are left. */
  refDrop(f: number): number {
    return (
      this.step('refDrop', `frame ${f}`, () => {
        const left = this.lookRefs(f) - 1;
        this.require(left >= 0, 'refsCoverLiveMappings', `a reference of frame ${f} is dropped that nobody took`);
        if (left <= 0) this.freed(f);
        else this.putRefs(f, left);
        return Math.max(0, left);
      }) ?? 0
    );
  }

  lookType(f: number): { readonly type: string; readonly count: number } {
    const at = this.memory.frame(f);
    const type = this.texts.textOf(this.memory.get(at + frameField.type)) ?? '';
    return { type, count: this.memory.get(at + frameField.typeCount) };
  }
  putType(f: number, type: string, count: number): void {
    const at = this.memory.frame(f);
    this.memory.set(at + frameField.type, this.texts.wordOf(type));
    this.memory.set(at + frameField.typeCount, count);
  }
  /** A type reference: +1 where the count is 0 or the type is this one, or -1. False: refused. */
  typeRef(f: number, type: string, delta: 1 | -1): boolean {
    return (
      this.step('typeRef', `frame ${f} as ${type} ${delta > 0 ? '+1' : '-1'}`, () => {
        const now = this.lookType(f);
        if (delta > 0 && now.count > 0 && now.type !== type) return false;
        this.putType(f, type, now.count + delta);
        return true;
      }) ?? false
    );
  }

  /** Contents become zero: in the CPU's caches. */
  scrub(f: number): void {
    this.step('scrub', `frame ${f}`, () => this.putTag(f, 0, this.spec.nonCoherent.length > 0 ? 'cache' : undefined));
  }
  /** What caches hold of a frame goes to memory. */
  frameWriteback(f: number): void {
    this.step('cacheWriteback', `frame ${f}`, () => this.putTag(f, this.lookTag(f), 'memory'));
  }

  /** Into a domain's PoD cache. */
  cacheAdd(f: number, domain: number): void {
    this.step('cacheAdd', `frame ${f} to d${domain}`, () => {
      this.putTag(f, 0);
      this.memory.set(this.memory.frame(f) + frameField.cacheOf, domain + 1);
    });
  }
  /** Out of it: the lowest frame; -1: it is empty. */
  cacheGet(domain: number): number {
    return (
      this.step('cacheGet', `of d${domain}`, () => {
        const [f] = this.lookCache(domain);
        if (f === undefined) return -1;
        this.memory.set(this.memory.frame(f) + frameField.cacheOf, 0);
        return f;
      }) ?? -1
    );
  }
  lookCache(domain: number): number[] {
    const frames: number[] = [];
    for (let f = 0; f < size.frames; f++)
      if (this.memory.get(this.memory.frame(f) + frameField.cacheOf) === domain + 1) frames.push(f);
    return frames;
  }
}
