// Who waits for whom in a kernel. Tasks write down what they sleep on; what a lock, a fence, a page reference or an
// invalidation waits for is asked of its owner at the moment of looking, so the graph cannot be out of date. Every edge means
// "not before": a circle is a hang. It knows nothing of how one sleeps (kernel-locks.ts).

export const waitKind = {
  task: 0,
  lock: 1,
  references: 2,
  fence: 3,
  buffer: 4,
  invalidation: 5,
  migration: 6,
  window: 7,
} as const;
type WaitKind = (typeof waitKind)[keyof typeof waitKind];

const ID_SPAN = 2 ** 24;

/** A thing one can wait for. */
export type WaitNode = number & { readonly __brand: 'WaitNode' };
export const waitNode = (kind: WaitKind, id: number): WaitNode => (kind * ID_SPAN + id) as WaitNode;

export interface WaitEdge {
  readonly to: WaitNode;
  /** Reads as "<from> <why> <to>". */
  readonly why: string;
}

/** The owner of one kind of thing. */
export interface WaitOwner {
  nameOf(id: number): string;
  /** All of them have to act before a waiter can go on; none: nobody is needed, or nobody is known. */
  holders(id: number): readonly WaitEdge[];
}

export interface WaitCycle {
  /** One sentence per edge, in order; the last one leads back to the first. */
  readonly edges: readonly string[];
}

interface Path {
  readonly node: WaitNode;
  readonly edge: WaitEdge;
}

/** Words of a task: what it waits for + 1, and how many waits it has begun and ended. */
const ON = 0;
const COUNT = 1;
const TASK_WORDS = 2;

export class WaitGraph {
  static bytes(tasks: number): number {
    return tasks * TASK_WORDS * 4;
  }

  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly owners = new Map<number, WaitOwner>();

  constructor(buffer: SharedArrayBuffer, tasks: readonly string[]) {
    this.words = new Int32Array(buffer);
    this.owners.set(waitKind.task, {
      nameOf: (id) => `${tasks[id]} (cpu${id})`,
      holders: (id) => {
        const on = Atomics.load(this.words, id * TASK_WORDS + ON);
        return on === 0 ? [] : [{ to: (on - 1) as WaitNode, why: 'waits for' }];
      },
    });
  }

  register(kind: WaitKind, owner: WaitOwner): void {
    this.owners.set(kind, owner);
  }

  begin(task: number, on: WaitNode): void {
    Atomics.store(this.words, task * TASK_WORDS + ON, on + 1);
    Atomics.add(this.words, task * TASK_WORDS + COUNT, 1);
  }

  end(task: number): void {
    Atomics.add(this.words, task * TASK_WORDS + COUNT, 1);
    Atomics.store(this.words, task * TASK_WORDS + ON, 0);
  }

  isWaiting(task: number): boolean {
    return Atomics.load(this.words, task * TASK_WORDS + ON) !== 0;
  }

  nameOf(node: WaitNode): string {
    return this.owner(node)?.nameOf(node % ID_SPAN) ?? `node ${node}`;
  }

  /** A circle that `task` waits in or behind. Looked at twice: an edge that went away in between was none. */
  findCycle(task: number): WaitCycle | null {
    const waits = this.waitCounts();
    const cycle = this.search(waitNode(waitKind.task, task), [], new Set());
    if (cycle === null) return null;
    const stands = cycle.every(({ node, edge }) => this.edgesOf(node).some(({ to }) => to === edge.to));
    const now = this.waitCounts();
    const tasks = cycle.map(({ node }) => node).filter((node) => Math.floor(node / ID_SPAN) === waitKind.task);
    if (!stands || tasks.some((node) => waits[node] !== now[node])) return null;
    return { edges: cycle.map(({ node, edge }) => `${this.nameOf(node)} ${edge.why} ${this.nameOf(edge.to)}`) };
  }

  private waitCounts(): number[] {
    return Array.from({ length: this.words.length / TASK_WORDS }, (_, i) =>
      Atomics.load(this.words, i * TASK_WORDS + COUNT),
    );
  }

  private owner(node: WaitNode): WaitOwner | undefined {
    return this.owners.get(Math.floor(node / ID_SPAN));
  }

  private edgesOf(node: WaitNode): readonly WaitEdge[] {
    return this.owner(node)?.holders(node % ID_SPAN) ?? [];
  }

  private search(node: WaitNode, path: Path[], done: Set<WaitNode>): Path[] | null {
    if (done.has(node)) return null;
    for (const edge of this.edgesOf(node)) {
      path.push({ node, edge });
      const at = path.findIndex((step) => step.node === edge.to);
      if (at >= 0) return path.slice(at);
      const found = this.search(edge.to, path, done);
      if (found) return found;
      path.pop();
    }
    done.add(node);
    return null;
  }
}
