// What of a host's memory is its state, as far as invariants look at it.
import { createHash } from 'node:crypto';
import type { Host } from '#model/host';

/** Counters and the profile in the lock table are no state; that no lock is held is asked each time. */
export function liveParts({ shared }: Host): Uint8Array[] {
  const { frames, heap, domains, slots, tlbs, iommu, grants, pvIommu, gpus } = shared.buffers;
  return [domains, frames, heap, slots, iommu, tlbs, grants, pvIommu, gpus].map((b) => new Uint8Array(b));
}

export function tablesOf({ tables }: Host): Uint8Array {
  const { slots, slotsEverUsed } = tables;
  return new Uint8Array(slots.buffer, slots.byteOffset, slotsEverUsed * 8);
}

/** Everything that the state invariants look at. */
export const stateParts = (host: Host): Uint8Array[] => [tablesOf(host), ...liveParts(host)];

/** To be compared only. */
export function digestOf(parts: readonly ArrayBufferView[]): string {
  const digest = createHash('sha1');
  for (const part of parts) digest.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  return digest.digest('hex');
}
