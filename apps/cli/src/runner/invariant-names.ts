// The invariants a scenario can name: those the model checks, and those that only the run as a whole can judge, because they
// speak of what a guest's kernel believed. Owns the list and what stands for what.
import { invariants } from '#model/invariants/check';
import { eventInvariants } from '#model/invariants/events';

/** Judged by the runner, from faults and from what the drivers report (advisories' names). */
export const judgedByRun = {
  dmaToGuestRamNeverFaults: 'a DMA to a page that the guest’s memory map calls RAM faulted',
  neighboursStayMapped: 'a DMA to a page that nobody gave up, mapped before and after, faulted',
  reservedDmaReachesTheFirmwareFrame:
    'a DMA of a device to its reserved memory reached another frame than the firmware’s',
  cpuAndDeviceAgreeOnGfn: 'a CPU did not find at an address what a device of its guest had written there',
  everyBarHasAPlace: 'a driver’s access to a window of its device was answered by nobody',
  shadowedPageStaysMapped:
    'a shared GPU, working for a guest, was refused a page by the IOMMU that the guest’s table names',
  noWriteLost: 'a frame did not hold what was last written to it',
} as const;
export type JudgedByRun = keyof typeof judgedByRun;

/** A name that stands for several. */
const families: Readonly<Record<string, readonly string[]>> = {
  dmaHitsOnlyFramesOfItsDomain: ['noDmaToFreedFrame', 'noDmaToForeignFrame'],
};

export const knownInvariants: readonly string[] = [
  ...Object.keys(judgedByRun),
  ...Object.keys(eventInvariants),
  ...Object.keys(families),
  ...invariants.map(({ name }) => name),
];

/** The names under which violations of `invariant` are recorded. */
export const recordedAs = (invariant: string): readonly string[] => families[invariant] ?? [invariant];
