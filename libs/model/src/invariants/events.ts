// Event invariants: judged at the very step where the harm would happen, by the code that takes the step, and reported through
// Platform.violation. State invariants (check.ts) find the same bugs earlier but only at safepoints; the event convinces.

export const eventInvariants = {
  noDmaToFreedFrame: 'a device transaction landed in a frame that nobody owns',
  noDmaToForeignFrame:
    "a device transaction landed in a frame of a domain that is not the device's and did not lend it",
  noWalkThroughFreedTable: 'a hardware walk (CPU or IOMMU) went through a table page that had left its tree',
  noCpuAccessToFreedFrame: 'a vCPU reached a frame that nobody owns',
  noCpuAccessToForeignFrame: "a vCPU reached another domain's frame without a foreign mapping",
} as const;
