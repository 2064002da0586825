// Shared by the lock specs and their threads.
import type { LockDeclaration } from '#model/shared-memory/lock-table';

export const lockDeclarations: readonly LockDeclaration[] = [
  { name: 'heap', scope: -1, bias: 0 },
  { name: 'p2m', scope: 1, bias: 0 },
  { name: 'pod', scope: 1, bias: 0 },
  { name: 'p2m', scope: 0, bias: 64 },
];

export interface LockWork {
  readonly kind: 'mutex' | 'rwlock';
  readonly cpu: number;
  readonly rounds: number;
  readonly locks: SharedArrayBuffer;
  readonly panic: SharedArrayBuffer;
  readonly counter: SharedArrayBuffer;
}
