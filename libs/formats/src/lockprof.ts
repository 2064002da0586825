// The lock profile in xenlockprof's columns: acquisitions and hold time, contended acquisitions and wait time, by lock.
// This file owns the row type, its text and the mark on rows that real Xen's profile does not have; the counting is the
// lock's own.

export interface LockProfileRow {
  /** A lock of the whole host, or of the domain with this id. */
  readonly scope: 'global' | number;
  readonly name: string;
  readonly lockCnt: number;
  /** Acquisitions that had to wait. */
  readonly blockCnt: number;
  readonly holdNs: number;
  readonly blockNs: number;
  /** Whether real Xen profiles this lock (it does not profile p2m, pod and the other mm locks). */
  readonly inXen: boolean;
}

export interface LockProfile {
  readonly rows: readonly LockProfileRow[];
  /** Length of the interval the counts were taken over. */
  readonly profilingNs: number;
  /** Rows that were lost because the table grew while it was read. */
  readonly missing?: number;
}

const secs = (ns: number): string => `${(ns / 1e9).toFixed(9).padStart(20)}s`;

/** `global lock NAME` or `domain N lock NAME`, as xenlockprof calls it. */
export const lockTitle = (row: LockProfileRow): string =>
  row.scope === 'global' ? `global lock ${row.name}` : `domain ${row.scope} lock ${row.name}`;

function profileLine(row: LockProfileRow): string {
  const counts = (n: number, ns: number): string => `${`${n}`.padStart(12)}(${secs(ns)})`;
  const line = `${lockTitle(row).padEnd(50)}: lock:${counts(row.lockCnt, row.holdNs)}, block:${counts(row.blockCnt, row.blockNs)}`;
  return row.inXen ? line : `${line} *`;
}

const sum = (rows: readonly LockProfileRow[], of: 'holdNs' | 'blockNs'): number =>
  rows.reduce((total, row) => total + row[of], 0);

/** The whole text. The totals cover every row; the legend says what the marked rows add to them. */
export function formatLockProfile({ rows, profilingNs, missing = 0 }: LockProfile): string {
  const lines = rows.map(profileLine);
  if (missing > 0) lines.unshift(`data incomplete, ${missing} records are missing!`);
  lines.push(
    `total profiling time: ${secs(profilingNs)}`,
    `total locked time:    ${secs(sum(rows, 'holdNs'))}`,
    `total blocked time:   ${secs(sum(rows, 'blockNs'))}`,
  );
  const marked = rows.filter((row) => !row.inXen);
  if (marked.length > 0) {
    const held = (sum(marked, 'holdNs') / 1e9).toFixed(9);
    const waited = (sum(marked, 'blockNs') / 1e9).toFixed(9);
    lines.push(`* not in real Xen's profile; these rows add ${held}s locked and ${waited}s blocked to the totals`);
  }
  return `${lines.join('\n')}\n`;
}
