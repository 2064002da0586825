// What is worth telling about a table that can be read: a stable code, how bad, the evidence and the remedy.

export interface TableFinding {
  /** Stable: `rmrr-overlap`. */
  readonly code: string;
  /** `blocker`: the IOMMU or the device cannot be used; `info`: as many machines have it. */
  readonly severity: 'blocker' | 'warning' | 'info';
  /** Of the structure, in bytes from the table's start. */
  readonly offset: number;
  /** `RMRR 0: shared by 2 devices`. */
  readonly what: string;
  readonly remedy: string;
}
