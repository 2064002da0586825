// A rangeset in shared memory: sorted, disjoint, not touching [first, last] pairs in the first `count * 2` cells of an array that
// a record owns. Who may change it, under which lock, is the owner's business; a reader without the lock may see a mixture.
export type RangeCells = Float64Array<SharedArrayBuffer>;

interface Range {
  readonly first: number;
  readonly last: number;
}

const ranges = (cells: RangeCells, count: number): Range[] =>
  Array.from({ length: count }, (_, i) => ({ first: cells[i * 2] as number, last: cells[i * 2 + 1] as number }));

/** Stores them and answers how many; -1, with nothing changed: there is no room. */
function store(cells: RangeCells, all: readonly Range[]): number {
  if (all.length * 2 > cells.length) return -1;
  for (const [i, { first, last }] of all.entries()) {
    cells[i * 2] = first;
    cells[i * 2 + 1] = last;
  }
  return all.length;
}

const without = (all: readonly Range[], first: number, last: number): Range[] =>
  all.flatMap((r) => [
    ...(r.first < first ? [{ first: r.first, last: Math.min(r.last, first - 1) }] : []),
    ...(r.last > last ? [{ first: Math.max(r.first, last + 1), last: r.last }] : []),
  ]);

/** The new count, or -1: no room for another range. */
export function addRange(cells: RangeCells, count: number, first: number, last: number): number {
  const old = ranges(cells, count);
  const touching = old.filter((r) => r.first <= last + 1 && r.last >= first - 1);
  const low = Math.min(first, ...touching.map((r) => r.first));
  const high = Math.max(last, ...touching.map((r) => r.last));
  const all = [...without(old, low, high), { first: low, last: high }];
  return store(
    cells,
    all.sort((a, b) => a.first - b.first),
  );
}

/** The new count, or -1: a range would fall in two and there is no room. */
export const removeRange = (cells: RangeCells, count: number, first: number, last: number): number =>
  store(cells, without(ranges(cells, count), first, last));

/** All of [first, last] is in one range of the set. */
export function containsRange(cells: RangeCells, count: number, first: number, last: number): boolean {
  for (let i = 0; i < count; i++) {
    if ((cells[i * 2] as number) <= first && (cells[i * 2 + 1] as number) >= last) return true;
  }
  return false;
}

/** Some of [first, last] is in the set. */
export function overlapsRange(cells: RangeCells, count: number, first: number, last: number): boolean {
  for (let i = 0; i < count; i++) {
    if ((cells[i * 2] as number) <= last && (cells[i * 2 + 1] as number) >= first) return true;
  }
  return false;
}
