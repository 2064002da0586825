// The invariants a litmus test can name: the model's own, those that only a driver of the model can see (a device that should not
// have faulted, a schedule that does not end), and what a test declares for itself.
import { invariants } from '#model/invariants/check';
import { eventInvariants } from '#model/invariants/events';

/** Found by the explorer itself. */
export const ends = {
  noWaitForCycle: 'every actor that is not done can go on, or waits for one that can',
  callsMakeProgress: 'no state repeats inside one call: it ends',
  hostDoesNotPanic: 'no step stops the host',
} as const;

/** Judged by the actors of a litmus test, by what they see; the names are those of the advisories' literature. */
export const harms = {
  neighboursStayMapped: 'while one page of a superpage changes, a device reaches all its other pages',
  dmaToGuestRamNeverFaults: 'a device reaches every page that its domain was told is RAM',
  mapThenDmaNeverFaults: 'once mapping a page has returned, a device reaches it',
  dmaHitsOnlyFramesOfItsDomain: 'what a device writes lands in a frame of its domain',
  cpuAndDeviceAgreeOnGfn: 'a device and a CPU of one domain find the same frame behind a gfn',
  newOwnerReadsNothingOld: "a frame's new owner finds nothing of what the old one wrote",
  noWriteLost: 'what was written to a page is there until somebody else writes',
  reservedPagesAreAlwaysReachable: 'a device reaches its reserved pages at every moment',
  xenAccessHoldsAReference:
    'Xen reads and writes guest memory only while a lock or a reference keeps the frame with its owner',
  noWriteLandsInAPageGivenUp: 'once giving a page up has returned, nobody of the domain writes to its frame',
} as const;

/** Every name with its meaning, or where it comes from. */
export const knownInvariants: ReadonlyMap<string, string> = new Map([
  ...invariants.map(({ name, source }) => [name, source] as const),
  ...Object.entries(eventInvariants),
  ...Object.entries(ends),
  ...Object.entries(harms),
]);
