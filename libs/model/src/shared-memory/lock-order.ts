// Every lock of the host, in order, and what it protects. A thread may only take locks of increasing level (equal is
// allowed, as in Xen's mm-locks.h); anything else is a host panic. The mm levels 8…64 are Xen's own numbers; the control
// domain's mm locks get +64, so that dom0's p2m (80) may be taken while a guest's locks (<= 64) are held.
// Levels outside 8…128 are ours: they put into one order what Xen documents in comments (p2m fact sheet 13).

export const CONTROL_DOMAIN_BIAS = 64;

export const lockLevel = {
  /** Serialises domctls; taken by trylock, contention is a continuation. */
  domctl: 1,
  /** A guest kernel's own lock over its page states; in a lock table of its own, never held across a hypercall. */
  guestAllocator: 1,
  // A Linux kernel's own locks (guest/mm, kvm), in a lock table of their own, in Linux's order; none is held across a hypercall
  // but guestDriver, by a driver that revokes what it lent.
  /** Fair reader/writer: an address space's list of VMAs (mmap_lock). */
  guestMmap: 1,
  /** A driver's notifier lock: what its invalidate callback takes, and under which it looks whether to retry. */
  guestDriver: 2,
  /** A KVM machine's mmu_lock: its stage-2 table and what is being invalidated. */
  guestKvmMmu: 2,
  /** An address space's notifier sequence, count of active invalidations, list of subscriptions. */
  guestNotifiers: 3,
  /** An address space's page table entries. */
  guestPageTable: 4,
  /** Free lists and references of a kernel's page frames. */
  guestFrames: 5,
  /** Recursive, global: which domain owns which PCI device. */
  pcidevs: 2,
  /** Per domain: its list of devices. */
  pci: 3,
  /** Per domain, reader/writer: version and size of its grant table. Not an mm lock: of dom0 no higher than of others. */
  grantTable: 4,
  /** Per domain: active grant entries, their pins. Deviation: Xen has a lock per entry. Held while the entry's frame is looked up. */
  grantActive: 5,
  /** Per domain: free handles of what it has mapped. */
  grantMaptrack: 6,
  /** Per domain, fair reader/writer, writer recursive: the p2m tree and M2P entries of its frames. gfn_lock is this lock. */
  p2m: 16,
  /** Per domain: PoD cache lists and counts, and the pairing of entry_count with PoD leaves. */
  pod: 48,
  /** Per domain: tot_pages, max_pages, who owns which frame. */
  pageAlloc: 56,
  /** Per domain: its pool of p2m table pages, its dirty bitmap. */
  paging: 64,
  /** Per IOMMU unit: root and context tables. */
  iommuContext: 200,
  /** Global: bus frames that dom0 manages (PV-IOMMU), and M2B. */
  pvIommu: 205,
  /** Per domain: its second-level I/O tables. Taken inside the p2m lock. */
  iommuMapping: 210,
  /** Per IOMMU unit: invalidation queue and registers. */
  iommuRegister: 220,
  /** Global: the buddy allocator, claims (the host's sum and each domain's) and frames taken offline. */
  heap: 230,
  /** Global: free list of table pages (ours: Xen's tables are ordinary frames). */
  tablePages: 240,
  /** Per device: the tail of its job queue (several vCPUs may submit; the DMA thread takes no lock). */
  deviceQueue: 245,
  /** Global: allocation of domids. */
  domainList: 250,
} as const;

export type LockName = keyof typeof lockLevel;

/** What `xenlockprof` of a real Xen would show; the others are ours and are marked in reports. */
export const inXenLockProfile: Record<LockName, boolean> = {
  domctl: true,
  guestAllocator: false,
  guestMmap: false,
  guestDriver: false,
  guestKvmMmu: false,
  guestNotifiers: false,
  guestPageTable: false,
  guestFrames: false,
  pcidevs: true,
  pci: false,
  grantTable: false,
  grantActive: false,
  grantMaptrack: false,
  p2m: false,
  pod: false,
  pageAlloc: true,
  paging: false,
  iommuContext: true,
  pvIommu: false,
  iommuMapping: false,
  iommuRegister: true,
  heap: true,
  tablePages: false,
  deviceQueue: false,
  domainList: true,
};
