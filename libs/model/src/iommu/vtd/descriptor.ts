// Invalidation requests of VT-d, as descriptors of the queue or as writes of registers, and what the hardware does for each:
// which cache it looks into and what it drops there. Whoever carries one out is alone in it (the queue's turn, or the
// register lock).
import { DEVICE_TLB_DID } from '../device-tlb.ts';
import type { TranslationCache } from '../translation-cache.ts';

/** Descriptor types, with VT-d's numbers. */
export const descriptorType = { context: 1, iotlb: 2, deviceTlb: 3, wait: 5 } as const;
/** Granularities, with VT-d's numbers; `device` is that of a context, `page` that of an IOTLB. */
export const granularity = { global: 1, domain: 2, page: 3, device: 3 } as const;

export interface Descriptor {
  readonly type: number;
  readonly granularity: number;
  readonly did: number;
  /** First frame of pages; the requester of a context; for `wait` the CPU. */
  readonly subject: number;
  /** log2 of the pages. */
  readonly order: number;
  /** Whose TLB, for `deviceTlb`. */
  readonly device: number;
}

const nothing: Descriptor = { type: 0, granularity: 0, did: 0, subject: 0, order: 0, device: 0 };

export const ofContext = (requester: number, did: number): Descriptor => ({
  ...nothing,
  type: descriptorType.context,
  granularity: granularity.device,
  did,
  subject: requester,
});
export const ofEverything: Descriptor = { ...nothing, type: descriptorType.iotlb, granularity: granularity.global };
export const ofDomain = (did: number): Descriptor => ({
  ...nothing,
  type: descriptorType.iotlb,
  granularity: granularity.domain,
  did,
});
export const ofPages = (did: number, dfn: number, order: number): Descriptor => ({
  ...nothing,
  type: descriptorType.iotlb,
  granularity: granularity.page,
  did,
  subject: dfn,
  order,
});
/** `order` null: all of it. */
export const ofDeviceTlb = (device: number, dfn: number, order: number | null): Descriptor => ({
  ...nothing,
  type: descriptorType.deviceTlb,
  granularity: order === null ? granularity.global : granularity.page,
  subject: dfn,
  order: order ?? 0,
  device,
});
export const ofWait = (cpu: number): Descriptor => ({ ...nothing, type: descriptorType.wait, subject: cpu });

/** What a unit with that cache does for a descriptor. */
export function executor(
  cache: TranslationCache,
  deviceTlbs: readonly (TranslationCache | null)[],
): (d: Descriptor) => void {
  return (d) => {
    if (d.type === descriptorType.context) {
      cache.beginFlush();
      cache.invalidateContext(d.subject);
    } else if (d.type === descriptorType.deviceTlb) {
      const tlb = deviceTlbs[d.device];
      if (tlb) drop(tlb, d, DEVICE_TLB_DID);
    } else drop(cache, d, d.did);
  };
}

function drop(cache: TranslationCache, d: Descriptor, did: number): void {
  cache.beginFlush(d.granularity === granularity.domain ? did : -1);
  if (d.granularity === granularity.global) cache.invalidateAll();
  else if (d.granularity === granularity.domain) cache.invalidateDomain(did);
  else cache.invalidatePages(did, d.subject, d.order);
}
