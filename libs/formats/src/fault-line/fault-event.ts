// What a line about a fault or a refusal says: who printed it, about which device, which address, which right. Owns the vocabulary
// that the spellings of Xen, Linux and the toolstacks are read into; why it happened is for the causes.

/** What a line reports. */
export type FaultKind =
  | 'dma-fault'
  | 'fault-reason'
  | 'interrupt-fault'
  | 'iommu-event'
  | 'iommu-timeout'
  | 'stale-tables'
  | 'faults-suppressed'
  | 'rmrr-not-reserved'
  | 'rmrr-bad'
  | 'rmrr-overlap'
  | 'rmrr-scope-broken'
  | 'rmrr-ignored'
  | 'rmrr-listed'
  | 'rmrr-relaxed'
  | 'rmrr-shared'
  | 'rmrr-ineligible'
  | 'direct-map-required'
  | 'identity-map-refused'
  | 'rdm-conflict'
  | 'dmar-broken'
  | 'iommu-map-failed'
  | 'iommu-unmap-failed'
  | 'iommu-flush-failed'
  | 'assign-failed'
  | 'not-assignable'
  | 'already-assigned'
  | 'no-iommu'
  | 'no-reset'
  | 'group-not-viable'
  | 'container-refused'
  | 'toolstack-permission'
  | 'pod-exhausted'
  | 'pod-cache'
  | 'pod-with-passthrough'
  | 'out-of-memory'
  | 'over-allocation'
  | 'domain-crash'
  | 'device-init-failed'
  | 'bar-not-claimed'
  | 'bar-no-space'
  | 'window-avoids-e820';

export type Reporter = 'Xen' | 'Linux' | 'libxl' | 'libvirt' | 'XAPI' | 'QEMU' | 'hvmloader' | 'a report';

export interface FaultEvent {
  readonly kind: FaultKind;
  readonly by: Reporter;
  /** SBDF with its segment. */
  readonly device: string | null;
  readonly address: number | null;
  /** Hexadecimal digits of an address of 2^53 or more, which no number here holds; `address` is null then. */
  readonly wideAddress: string | null;
  readonly access: 'read' | 'write' | null;
  /** VT-d's fault reason. */
  readonly reason: number | null;
  /** What the reporter says about it, in its words. */
  readonly detail: string | null;
  readonly range: { readonly base: number; readonly limit: number } | null;
  readonly domain: number | null;
  /** Other figures of the line by their name there. */
  readonly figures: Readonly<Record<string, number>>;
  /** Seconds since that kernel or hypervisor started. */
  readonly uptime: number | null;
  /** The line without date, host and level. */
  readonly text: string;
  /** 1-based, in what was given. */
  readonly line: number;
}
