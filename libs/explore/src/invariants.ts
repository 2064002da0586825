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
  completionBelongsToItsRequest: 'a wait succeeds only after the engine has carried out the very command waited for',
  deassignedDeviceNeverReachesDom0BeforeReset:
    'until it is reset, a device that comes back from a guest reaches nothing of dom0 or Xen',
  deviceEntryChangeImpliesIotlbFlush:
    'after a device was given to somebody else, no translation of its old owner serves it',
  dteIsSeenWholeOrBlocked:
    'a cached translation of a domain id was filled from the tables of the domain that has the id',
  everyOrderHasAHome: 'pages of any order are taken into the PoD cache, and its counts agree',
  ioWalkDepthMatchesTableDepth: 'a unit walks as many levels as the tables it was given have',
  iommuUseCountEqualsLiveHandles: 'a frame is counted as used by devices once for each live handle that names it',
  liveContextMapsItsReservedPages: 'tables that a device has map its reserved pages',
  liveDomainIdMapsBackToItsUser:
    'a domain id in use leads back to the domain that uses it, so that no flush is skipped',
  mappedFrameHasCurrentSequence: 'a mapping was resolved after the last invalidation of its range had begun',
  moveToSelfIsIdempotent: 'a page moved to where it is stays there',
  noAccessAfterRevokeReturns: 'once a revocation has returned, nobody reaches the frames through the borrower',
  noContextPointsToFreedTable: 'what a device was given as its tables are live tables',
  noFrameFreedWhileIotlbHoldsIt: 'a frame leaves its owner only when no IOTLB entry of that owner names it',
  noWritableTlbEntryToAPageTable: 'no TLB entry lets a guest write to a page that is validated as a page table',
  oneGfnPerOwnedFrame: 'a frame of a domain is mapped at one of its gfns at most',
  onlyDeclaredFramesAreUnityMapped: 'a guest has 1:1 only what firmware declared for a device it has',
  podCountCoversTable: 'entry_count is at least the number of populate-on-demand pages in the table',
  populateMakesProgressOrFails: 'a populate that asks for another try has changed the entry it was called for',
  quarantineTargetIsTheScratchPage: 'every walk from the quarantine tables ends in the scratch page, or faults',
  refsCoverLiveMappings: 'a frame has as many references as it is allocated and mapped',
  removedEntryIsZero: 'a removed entry is empty for hardware and for Xen',
  reservedDmaReachesTheFirmwareFrame:
    'while a device with a reserved page is assigned, its DMA there reaches that frame',
  reservedPagesMappedExactlyWhileOwned:
    'reserved pages are mapped while a device that names them is assigned, and only then',
  revokeIsBounded: 'a revocation waits for a bounded number of steps of others, whatever they do',
  rightsReductionInvalidates: 'taking rights or the frame from an entry returns after the IOTLB has forgotten it',
  walkerSeesOldOrNewEntryOnly: 'what a walker reads in an entry was stored there as a whole',
} as const;

/** Every name with its meaning, or where it comes from. */
export const knownInvariants: ReadonlyMap<string, string> = new Map([
  ...invariants.map(({ name, source }) => [name, source] as const),
  ...Object.entries(eventInvariants),
  ...Object.entries(ends),
  ...Object.entries(harms),
]);
