// What a guest's kernel can be told to do beside its drivers: activities, each with the values a scenario writes, and how kernels
// share memory in this run. Plain data (it travels in boot jobs); what an activity does is the file of its name, and table.ts knows
// them all.

/** How a kernel shares memory with another domain, and what it gets wrong; of the run's policies (host-config.ts). */
export interface SharingPolicies {
  readonly share: 'grant' | 'foreign' | 'lend' | 'fixed-blob';
  /** `pin`: shared pages stay where they are. `notifier`: they move, and whoever shares them is told. */
  readonly mapping: 'notifier' | 'pin';
  /** Who sees that a page was taken away since it was looked up. */
  readonly retryCheck: 'under-lock' | 'hypervisor' | 'before-lock' | 'missing';
  readonly gntdevUnmap: 'asynchronous' | 'synchronous';
  /** What the callback of a GPU with page faults does about a job under way. */
  readonly gpuCallback: 'zap' | 'fence';
  readonly grantBusy: 'defer' | 'ignore';
}

export const todaysSharing: SharingPolicies = {
  share: 'grant',
  mapping: 'notifier',
  retryCheck: 'under-lock',
  gntdevUnmap: 'asynchronous',
  gpuCallback: 'zap',
  grantBusy: 'defer',
};

/** The part of a run's policies that kernels are told. */
export const sharingOf = ({
  share,
  mapping,
  retryCheck,
  gntdevUnmap,
  gpuCallback,
  grantBusy,
}: SharingPolicies): SharingPolicies => ({ share, mapping, retryCheck, gntdevUnmap, gpuCallback, grantBusy });

/** A backend whose kernel moves a buffer while a guest uses it: frame `window` + i of the guest shows page i. */
export interface LenderSpec {
  readonly run: 'lender';
  readonly window: number;
  readonly pages: number;
}

/** A guest's user space that writes to the buffer and reads what it wrote. */
export interface BorrowerSpec {
  readonly run: 'borrower';
  readonly window: number;
  readonly pages: number;
}

/** The same without Xen: a KVM machine whose RAM is memory of this kernel. */
export interface KvmSpec {
  readonly run: 'kvm';
  readonly pages: number;
  /** `int32`: the invalidation sequence goes through a signed 32-bit variable, as it once did. */
  readonly snapshot: '64' | 'int32';
}

/** A guest that copies into and out of lent pages by hypercall. */
export interface CopierSpec {
  readonly run: 'copier';
  readonly window: number;
  readonly pages: number;
}

/** A backend that lends a buffer of 2M and takes single pages of it back; `order`: of the window it opens. */
export interface LargeLenderSpec {
  readonly run: 'large-lender';
  readonly window: number;
  readonly order: '4k' | '2m';
}

/** A guest that uses up its own table memory, and then touches the buffer. */
export interface HoarderSpec {
  readonly run: 'hoarder';
  readonly window: number;
}

/** A process that maps grants of another domain, has a device work on them, and unmaps them. */
export interface GntdevSpec {
  readonly run: 'gntdev';
  readonly pages: number;
  /** `io`: direct I/O, which refers to the pages for as long as it takes; `gpu`: a GPU's buffer (userptr). */
  readonly use: 'io' | 'gpu';
}

/** The other side: a frontend that grants pages for one use after the other, and wants them back. */
export interface FrontendSpec {
  readonly run: 'frontend';
  readonly pages: number;
}

/** Two vCPUs of a guest that both move Xen's shared_info page about in its address space. */
export interface MoverSpec {
  readonly run: 'mover';
}

/**
 * A guest that has Xen copy into pages of its own (`pages` of them) while another vCPU gives them up and takes them back; with `window`
 * above 0 the pages are those from that gfn on, and the other vCPU moves pages of the guest there.
 */
export interface TranslatorSpec {
  readonly run: 'translator';
  readonly pages: number;
  readonly window: number;
}

/** dom0 shows a device's registers in a guest and takes them away: `pages` of them from `mfn` on, at `window`, as vPCI does for a BAR. */
export interface BarPlacerSpec {
  readonly run: 'bar-placer';
  readonly window: number;
  readonly pages: number;
  readonly mfn: number;
}

export type ActivitySpec =
  | LenderSpec
  | BorrowerSpec
  | KvmSpec
  | CopierSpec
  | LargeLenderSpec
  | HoarderSpec
  | GntdevSpec
  | FrontendSpec
  | MoverSpec
  | TranslatorSpec
  | BarPlacerSpec;
export type ActivityName = ActivitySpec['run'];
export type SpecOf<N extends ActivityName> = Extract<ActivitySpec, { run: N }>;

/** What a scenario asks of an activity: to begin, with these domains; or to come to its end. */
export type ActivityOrder =
  /** `turn` grows with each order of a run. `attempts` 0: it goes on until it is told to end. */
  | { readonly begin: true; readonly turn: number; readonly peers: readonly number[]; readonly attempts: number }
  | { readonly begin: false; readonly turn: number };

/** `ready`: what others need of it is there. `over`: none of its tasks does anything any more. */
export type ActivityPhase = 'ready' | 'progress' | 'over' | 'failed';
