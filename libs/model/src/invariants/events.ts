// Event invariants: judged at the very step where the harm would happen, by the code that takes the step, and reported through
// Platform.violation. State invariants (check.ts) find the same bugs earlier but only at safepoints; the event convinces.

export const eventInvariants = {
  noDmaToFreedFrame: 'a device transaction landed in a frame that nobody owns',
  noDmaToForeignFrame:
    "a device transaction landed in a frame of a domain that is not the device's and did not lend it",
  noWalkThroughFreedTable: 'a hardware walk (CPU or IOMMU) went through a table page that had left its tree',
  noCpuAccessToFreedFrame: 'a vCPU reached a frame that nobody owns',
  noAccessAfterRevoke: 'a vCPU reached lent memory through a translation that a finished revocation had taken away',
  revokeNeverFails: 'a page of the lender could not be taken back',
  noCpuAccessToForeignFrame: "a vCPU reached another domain's frame without a foreign mapping",
  noAccessAfterInvalidate:
    'a device or a guest reached a page through a secondary mapping after its kernel had taken the page back',
  noMappingWithStaleSequence:
    'a secondary mapping was made of a page that had begun to be invalidated since it was looked up',
  noFileWriteLost: 'a page of a file was dropped as clean though it had been written since it was last written back',
  noWaitCycle: 'tasks of a kernel wait for each other in a circle',
  nonBlockableNeverSleeps: 'an invalidate callback slept though it had been told that it may not block',
  blockableCallbackNeverFails: 'an invalidate callback refused though it may block',
  faultMakesProgress: 'a fault was told to retry though nothing had been invalidated since it began',
  noDeviceFaultInsideFence: 'a device without page faults found no mapping for a page of a job that was under way',
  noGrantedPageFreedWhileMapped: 'a granter used a page for something else while the grant was still mapped',
  noGpuReachIntoFreedFrame: 'a shared GPU, working for a guest, landed in a frame that nobody owns',
  noGpuReachIntoForeignFrame: 'a shared GPU, working for a guest, landed in a frame of somebody else',
  busFrameIsCleanBeforeReuse: 'a bus frame was mapped again before its old translation had been flushed',
  translationHeldWhileUsed: 'a hypercall used a frame that its gfn had lost since it was translated',
  pointerIntoPageDiesWithTheLock:
    'a pointer into a page was used after the lock under which it was found was dropped and the page given up',
  noFrameFreedWhileAnyTlbHoldsIt: 'a frame was freed before the unmap of its bus frame had been flushed',
} as const;
