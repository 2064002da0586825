// The number by which a pCPU's notes say what it runs: which operation, and for whom. An operation is told by a hash of its name,
// so that a pCPU thread needs no table of all of them; only whoever reads the notes does.

const HASHES = 2 ** 24;
const hashes = new Map<string, number>();

/** 0 is no operation's. */
export function operationHash(op: string): number {
  let hash = hashes.get(op);
  if (hash === undefined) {
    hash = 5381;
    for (let i = 0; i < op.length; i++) hash = (Math.imul(hash, 33) ^ op.charCodeAt(i)) >>> 0;
    hash = (hash % (HASHES - 1)) + 1;
    hashes.set(op, hash);
  }
  return hash;
}

export const runNumber = (op: string | undefined, domid: number): number =>
  (op === undefined ? 0 : operationHash(op)) + HASHES * domid;

export const runOf = (
  number: number,
  names: ReadonlyMap<number, string>,
): { readonly domid: number; readonly call: string } => ({
  domid: Math.floor(number / HASHES),
  call: names.get(number % HASHES) ?? '',
});
