// The registry of state invariants, by the names one quotes in a bug report, and the checker that runs them. Only at a
// safepoint: pCPUs parked between calls, DMA drained. Event invariants (a DMA landed in a stranger's frame) are not here:
// they are judged at the step itself and reported through Platform.violation.
import type { Host, Violation } from '../host.ts';
import { iotlbMatchesTables } from './cache-invariants.ts';
import { ioWalkDepthMatchesTableDepth, noContextPointsToFreedTable } from './context-invariants.ts';
import {
  allRequesterIdsShareOneOwner,
  quarantinedDeviceKeepsItsReservedPages,
  reservedRegionCountsMatchDevices,
} from './device-invariants.ts';
import type { Finding } from './findings.ts';
import {
  busFrameHoldsItsFrame,
  busTranslationsAreFlushed,
  globalEntriesLieInOneSlice,
  oneBusFrameNamesOneFrame,
  shadowAgreesWithGuestTable,
  shadowEntryHoldsItsFrame,
  trappedTablesAreIoreqPages,
} from './gpu-invariants.ts';
import {
  grantLeavesMatchHandles,
  grantMarksMatchPins,
  grantPinsMatchHandles,
  handleFreedOnce,
  pinnedImpliesReferenced,
} from './grant-invariants.ts';
import {
  contiguityMarkersTrue,
  everyTableIsReachableOnce,
  iommuMirrorsP2m,
  noIommuLeafToFreeFrame,
  noIommuMappingForPodGfn,
  noIotlbEntryToFreeFrame,
} from './iommu-invariants.ts';
import {
  lentFrameBelongsToLender,
  lentLeavesMatchWindows,
  noLentFrameInIommu,
  noTlbEntryAfterRevoke,
} from './lending-invariants.ts';
import {
  claimsWithinFree,
  everyFrameHasOneOwner,
  foreignCountMatchesLeaves,
  freeTablesAreEmpty,
  ioreqCountMatchesLeaves,
  logDirtyNeverWithDevice,
  m2pIsInverseOfP2m,
  noLockHeldAtSafepoint,
  noTlbEntryToFreeFrame,
  pagingPoolMatchesTables,
  totPagesMatchOwnedFrames,
} from './memory-invariants.ts';
import {
  podCacheHoldsOnlyOrdinaryRam,
  podCountMatchesLists,
  podEntryCountMatchesTable,
  podNeverWithDevice,
} from './pod-invariants.ts';
import {
  identityEntryChangesOnlyThroughItsOwner,
  noFrameWritableByTwoGuests,
  reservedPagesMappedExactlyWhileOwned,
} from './reserved-region-invariants.ts';
import { Survey } from './survey.ts';

export interface Invariant {
  readonly name: string;
  /** Where it is written, or the bug that made it worth checking. */
  readonly source: string;
  check(survey: Survey): readonly Finding[];
}

/** An invariant that the survey judges leaf by leaf. */
const surveyed = (name: string) => (s: Survey) => s.findings.of(name);

export const invariants: readonly Invariant[] = [
  { name: 'm2pIsInverseOfP2m', source: 'p2m fact sheet, invariant 1; XSA-389, PoD-M2P', check: m2pIsInverseOfP2m },
  { name: 'everyFrameHasOneOwner', source: 'p2m fact sheet, invariants 1 and 3', check: everyFrameHasOneOwner },
  { name: 'totPagesMatchOwnedFrames', source: 'pod fact sheet, invariant 3', check: totPagesMatchOwnedFrames },
  { name: 'leafIsAligned', source: 'p2m fact sheet, invariant 5', check: surveyed('leafIsAligned') },
  { name: 'noP2mLeafToFreeFrame', source: 'p2m fact sheet, race R1', check: surveyed('noP2mLeafToFreeFrame') },
  { name: 'noTlbEntryToFreeFrame', source: 'p2m fact sheet 7', check: noTlbEntryToFreeFrame },
  { name: 'foreignCountMatchesLeaves', source: 'p2m fact sheet, invariant 3', check: foreignCountMatchesLeaves },
  { name: 'ioreqCountMatchesLeaves', source: 'p2m fact sheet, invariant 4', check: ioreqCountMatchesLeaves },
  {
    name: 'noLeafAboveMaxMappedPfn',
    source: 'p2m fact sheet, invariant 5',
    check: surveyed('noLeafAboveMaxMappedPfn'),
  },
  { name: 'leafRightsFollowType', source: 'p2m fact sheet 2', check: surveyed('leafRightsFollowType') },
  { name: 'validLeafNamesAFrame', source: 'p2m fact sheet 2', check: surveyed('validLeafNamesAFrame') },
  { name: 'leafHasOneMemoryType', source: 'p2m fact sheet 3', check: surveyed('leafHasOneMemoryType') },
  {
    name: 'noWriteUnseenByLogDirty',
    source: 'hypercalls fact sheet 2 (shadow_op)',
    check: surveyed('noWriteUnseenByLogDirty'),
  },
  {
    name: 'logDirtyNeverWithDevice',
    source: 'p2m fact sheet, race R9; hypercalls fact sheet, invariant 10',
    check: logDirtyNeverWithDevice,
  },
  {
    name: 'podEntryCountMatchesTable',
    source: 'pod fact sheet, invariant 1; XSA-388',
    check: podEntryCountMatchesTable,
  },
  { name: 'podCountMatchesLists', source: 'pod fact sheet, invariant 2', check: podCountMatchesLists },
  { name: 'podCacheHoldsOnlyOrdinaryRam', source: 'XSA-507', check: podCacheHoldsOnlyOrdinaryRam },
  { name: 'cacheFramesAreMappedNowhere', source: 'XSA-247', check: surveyed('cacheFramesAreMappedNowhere') },
  { name: 'podNeverWithDevice', source: 'pod fact sheet, invariant 7', check: podNeverWithDevice },
  { name: 'noIommuMappingForPodGfn', source: 'pod fact sheet, invariant 10', check: noIommuMappingForPodGfn },
  { name: 'iommuMirrorsP2m', source: 'p2m fact sheet, invariant 6', check: iommuMirrorsP2m },
  { name: 'noIommuLeafToFreeFrame', source: 'iommu fact sheet, invariant 2', check: noIommuLeafToFreeFrame },
  { name: 'noIotlbEntryToFreeFrame', source: 'iommu fact sheet, invariant 2; XSA-346', check: noIotlbEntryToFreeFrame },
  { name: 'iotlbMatchesTables', source: 'iommu fact sheet, invariant 2; XSA-275, XSA-346', check: iotlbMatchesTables },
  { name: 'allRequesterIdsShareOneOwner', source: 'XSA-449, XSA-399', check: allRequesterIdsShareOneOwner },
  {
    name: 'reservedRegionCountsMatchDevices',
    source: 'iommu fact sheet, invariant 7; XSA-386, XSA-460',
    check: reservedRegionCountsMatchDevices,
  },
  {
    name: 'quarantinedDeviceKeepsItsReservedPages',
    source: 'XSA-400',
    check: quarantinedDeviceKeepsItsReservedPages,
  },
  {
    name: 'identityEntryChangesOnlyThroughItsOwner',
    source: 'XSA-378',
    check: identityEntryChangesOnlyThroughItsOwner,
  },
  {
    name: 'reservedPagesMappedExactlyWhileOwned',
    source: 'XSA-460',
    check: reservedPagesMappedExactlyWhileOwned,
  },
  { name: 'noContextPointsToFreedTable', source: 'XSA-386', check: noContextPointsToFreedTable },
  { name: 'ioWalkDepthMatchesTableDepth', source: 'XSA-390, XSA-445', check: ioWalkDepthMatchesTableDepth },
  {
    name: 'noFrameWritableByTwoGuests',
    source: 'iommu fact sheet, race R10',
    check: noFrameWritableByTwoGuests,
  },
  { name: 'contiguityMarkersTrue', source: 'iommu fact sheet, invariant 6', check: contiguityMarkersTrue },
  { name: 'everyTableIsReachableOnce', source: 'p2m fact sheet, invariant 8', check: everyTableIsReachableOnce },
  { name: 'freeTablesAreEmpty', source: 'XSA-328, XSA-480', check: freeTablesAreEmpty },
  { name: 'pagingPoolMatchesTables', source: 'p2m fact sheet 11', check: pagingPoolMatchesTables },
  {
    name: 'grantPinsMatchHandles',
    source: 'hypercalls fact sheet, invariant 6; XSA-218, XSA-224',
    check: grantPinsMatchHandles,
  },
  { name: 'grantMarksMatchPins', source: 'hypercalls fact sheet, invariant 6', check: grantMarksMatchPins },
  { name: 'pinnedImpliesReferenced', source: 'XSA-236', check: pinnedImpliesReferenced },
  { name: 'handleFreedOnce', source: 'XSA-218', check: handleFreedOnce },
  {
    name: 'grantLeavesMatchHandles',
    source: 'hypercalls fact sheet 3 (map)',
    check: grantLeavesMatchHandles,
  },
  { name: 'lentLeavesMatchWindows', source: 'linux-guest fact sheet 4.4, step 2', check: lentLeavesMatchWindows },
  { name: 'lentFrameBelongsToLender', source: 'lending fact sheet 2', check: lentFrameBelongsToLender },
  { name: 'noLentFrameInIommu', source: 'linux-guest fact sheet, invariant 9', check: noLentFrameInIommu },
  { name: 'noTlbEntryAfterRevoke', source: 'linux-guest fact sheet, invariant 3', check: noTlbEntryAfterRevoke },
  {
    name: 'oneBusFrameNamesOneFrame',
    source: 'gpu-mediated fact sheet, invariant 4; seed 003',
    check: oneBusFrameNamesOneFrame,
  },
  { name: 'busFrameHoldsItsFrame', source: 'gpu-mediated fact sheet 5, race R8', check: busFrameHoldsItsFrame },
  {
    name: 'busTranslationsAreFlushed',
    source: 'gpu-mediated fact sheet, invariant 8, race R6; XSA-346',
    check: busTranslationsAreFlushed,
  },
  {
    name: 'shadowEntryHoldsItsFrame',
    source: 'gpu-mediated fact sheet, invariant 2, races R1, R9, R11',
    check: shadowEntryHoldsItsFrame,
  },
  {
    name: 'shadowAgreesWithGuestTable',
    source: 'gpu-mediated fact sheet, invariant 1, race R3',
    check: shadowAgreesWithGuestTable,
  },
  {
    name: 'trappedTablesAreIoreqPages',
    source: 'gpu-mediated fact sheet, invariant 3',
    check: trappedTablesAreIoreqPages,
  },
  {
    name: 'globalEntriesLieInOneSlice',
    source: 'gpu-mediated fact sheet, invariant 5',
    check: globalEntriesLieInOneSlice,
  },
  { name: 'claimsWithinFree', source: 'hypercalls fact sheet 1.7', check: claimsWithinFree },
  { name: 'noLockHeldAtSafepoint', source: 'p2m fact sheet, invariant 9', check: noLockHeldAtSafepoint },
];

/** Everything that is wrong with the host, by invariant; empty = all hold. */
export function checkInvariants(h: Host): Violation[] {
  const survey = new Survey(h);
  return invariants.flatMap(({ name, check }) =>
    check(survey).map(({ text, evidence }) => ({ invariant: name, text, evidence })),
  );
}
