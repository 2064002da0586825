// Everything a domain is, as one shared record. Fields are grouped by the lock that protects them; words written by several
// CPUs without a lock are marked (atomic).
import { defineRecord } from '../shared-memory/record.ts';

/** Values of `state`. A zombie is dead but some frame of it is still referenced. */
export const domainState = { free: 0, building: 1, live: 2, dying: 3, zombie: 4 } as const;

/** Bits of `features`, fixed at creation. */
export const domainFeature = {
  hvm: 1,
  hap: 2,
  iommu: 4,
  noSharept: 8,
  deviceModel: 16,
  /** VT-d root pointer = EPT root: map/unmap do nothing, ept_set_entry flushes. */
  hapPtShare: 32,
  /** p2m changes are mirrored into separate IOMMU tables. */
  needSync: 64,
  hardware: 128,
} as const;

export const POD_MRP_SLOTS = 32;
export const MAX_IDENTITY_MAPS = 64;
export const MAX_IOMEM_RANGES = 64;
export const MAX_MEMORY_MAP = 128;
const MAX_LOGDIRTY_RANGES = 16;
export const MAX_LEND_WINDOWS = 16;
/** Doubles per window of lent memory (lending/window.ts). */
export const LEND_WINDOW_CELLS = 8;
export const MAX_VCPUS = 128;

export const domainRecord = defineRecord('domain', {
  // written once at creation, or under the domain list lock
  state: 'i32',
  domid: 'i32',
  incarnation: 'i32',
  features: 'i32',
  vcpus: 'i32',
  /** (atomic) set once, first step of death */
  isDying: 'i32',
  /** (atomic) domain_crash or shutdown happened: reason + 1 */
  shutdown: 'i32',
  /** (atomic) */
  pauseCount: 'i32',
  /** (atomic) stage that destroydomain resumes at */
  destroyStage: 'i32',
  creationFinished: 'i32',
  /** vCPUs of it that are executing in guest mode right now (atomic) */
  running: 'i32',
  /** (atomic) bit per pCPU: that CPU must flush its TLB of this domain before it runs it again */
  invalidate: ['i32', 2],
  /** (atomic) Changes whenever something of lent memory happens that its vCPUs may wait for, as a borrower or as a lender. */
  lendEvents: 'i32',
  /** pages of it still referenced after death (atomic) */
  pendingFrees: 'i32',
  /** Frame that the release of its memory resumes at (domctl lock). */
  relinquishAt: 'f64',
  /** Time that pCPUs spent on its calls and accesses. The model has no clock: the process around it writes this, by one thread. */
  cpuTimeUs: 'f64',
  /** Frame of the shared-info page + 1 (Xen's page, shown to the guest on request); 0 = none. */
  sharedInfo: 'f64',

  // p2m lock
  /** Table index of the EPT root. */
  p2mRoot: 'f64',
  maxMappedPfn: 'f64',
  deferFlush: 'i32',
  needFlush: 'i32',
  nrForeign: 'f64',
  /** 1: every changeable gfn is, or will be when touched, log-dirty. */
  globalLogdirty: 'i32',
  /** gfns that are log-dirty by themselves, as [first, last]. */
  logdirtyRanges: ['f64', MAX_LOGDIRTY_RANGES * 2],
  logdirtyRangeCount: 'i32',
  /** Leaves of type ioreq_server. */
  ioreqEntryCount: 'f64',
  /** Id + 1 of the ioreq server that has claimed them; 0 = none. */
  ioreqServer: 'i32',
  /** It claims their writes (XEN_DMOP_IOREQ_MEM_ACCESS_WRITE). */
  ioreqFlags: 'i32',

  /** Places for memory that others lend to it (lending/window.ts). */
  lendWindows: ['f64', MAX_LEND_WINDOWS * LEND_WINDOW_CELLS],
  /** Per vCPU the access to lent memory that it waits for (lending/lend-fault.ts); 0 = none. */
  lendFaults: ['f64', MAX_VCPUS],
  /** Leaves of type lent, and of the two grant types. */
  nrLent: 'f64',
  nrGrantLeaves: 'f64',

  // pod lock
  podSuper: ['f64', 3],
  podSingle: ['f64', 3],
  /** Frames in both lists. */
  podCount: 'f64',
  podEntryCount: 'f64',
  podReclaimSingle: 'f64',
  podMaxGuest: 'f64',
  podMrp: ['f64', POD_MRP_SLOTS],
  podMrpIdx: 'i32',

  // page_alloc lock
  totPages: 'f64',
  maxPages: 'f64',
  /** A block of it that populate_physmap has not scrubbed to its end: first frame + 1 (0 = none), order, frames done. */
  pendingScrub: 'f64',
  pendingScrubOrder: 'i32',
  pendingScrubDone: 'f64',

  // heap lock
  /** Claimed and not yet allocated. */
  outstandingPages: 'f64',

  // paging lock
  pool: ['f64', 3],
  poolTotal: 'f64',
  /** 1: writes are logged (Xen's PG_log_dirty). */
  logDirty: 'i32',
  /** Top table of the dirty bitmap; 0 = none yet. */
  dirtyRoot: 'f64',
  dirtyCount: 'f64',
  dirtyFailedAllocs: 'f64',
  /** A shadow_op that yielded: domid of its caller + 1, and which one it is. */
  pagingOpBy: 'i32',
  pagingOp: 'i32',
  /** Video memory that a device model watches: [begin, end); both 0 = none. */
  vramBegin: 'f64',
  vramEnd: 'f64',
  /** Bit per ioreq server id that exists. */
  ioreqServers: 'i32',
  /** Two pages per ioreq server: frame + 1 (p2m/ioreq-pages.ts). */
  ioreqPages: ['f64', 16],

  // IOMMU mapping lock
  /** Table index of the second-level root; 0 = none. */
  iommuRoot: 'f64',
  iommuTables: 'f64',
  /** Root taken off its contexts and still being freed; 0 = none. */
  iommuDetached: 'i32',

  // pcidevs lock
  deviceCount: 'i32',
  /** Identity maps of reserved regions: {first pfn, last pfn, p2m access, count, pages made 1:1} each. */
  identityMaps: ['f64', MAX_IDENTITY_MAPS * 5],
  identityMapCount: 'i32',

  // domctl lock
  /** The domain it may act upon as its device model's (domctl set_target): domid + 1 and incarnation. */
  target: 'i32',
  targetIncarnation: 'i32',
  /** iomem permissions as [first, last] frames. */
  iomem: ['f64', MAX_IOMEM_RANGES * 2],
  iomemCount: 'i32',
  /** Map from XENMEM_set_memory_map: {addr, size, type} each. */
  memoryMap: ['f64', MAX_MEMORY_MAP * 3],
  memoryMapCount: 'i32',
  /** Name in 16-bit units, nameLength of them. */
  name: ['i32', 32],
  nameLength: 'i32',
});
