// The policy knobs of a run, by the names operators write: allowed values, default (first: what Xen and libxl do today),
// and meaning. Owns the table and the choice of defaults; what a value does is the model's.
import type { ModelPolicies } from '#model/host-config';
import { closestName } from './operator-error.ts';
import { show, type Words } from './schema-words.ts';

interface Knob {
  readonly values: readonly [string, ...string[]];
  readonly meaning: string;
}

export const knobs = {
  shatter: {
    values: ['atomic', 'naive', 'break-before-make'],
    meaning: 'how an IOMMU or p2m superpage is split: one store, clear then refill by 4K, or through an invalid entry',
  },
  'pod-with-passthrough': {
    values: ['refuse', 'allow', 'populate-first'],
    meaning:
      "Xen's answer to a device for a domain with PoD: -EXDEV, the assignment as before 2022, or populate all first",
  },
  'libxl-pod-check': {
    values: ['on', 'off'],
    meaning: 'whether the toolstack refuses PoD with passthrough before it builds the guest',
  },
  'rdm-parser': {
    values: ['documented', 'verbatim'],
    meaning:
      'how xl reads rdm=: as its manual says, or as its parser does, which drops the key whenever its policy= is a valid one',
  },
  squeezed: {
    values: ['off', 'on'],
    meaning:
      "whether the toolstack has XenServer's squeezed: guests are sized between memory= and maxmem=, and balanced every 10 s",
  },
  'iommu.tables': {
    values: ['auto', 'separate', 'shared'],
    meaning: "whether the IOMMU walks the CPU's tables; auto decides by the units' superpage sizes",
  },
  'iommu.superpages': {
    values: ['on', 'off'],
    meaning: 'whether the IOMMU maps by 2M and 1G where its units can',
  },
  'iotlb.flush': {
    values: ['sync', 'deferred', 'lost'],
    meaning: 'when an IOTLB invalidation takes effect: before the call returns, some time after it, or never',
  },
  'cpu.flush': {
    values: ['deferred-to-unlock', 'lost'],
    meaning: "when the CPUs' TLBs are flushed after a p2m change: at the outermost unlock, or never",
  },
  'balloon.order': {
    values: ['4k', '2m'],
    meaning: 'which pages a guest kernel gives up: scattered single pages, or whole superpages',
  },
  'foreign-map.place': {
    values: ['ballooned-hole', 'top-of-ram'],
    meaning: 'where a guest maps foreign frames: over RAM it ballooned out, or above its RAM',
  },
  ats: {
    values: ['off', 'on'],
    meaning: 'whether devices that can keep translations in a TLB of their own (ATS) do so',
  },
  'special-entries': {
    values: ['protected', 'replaceable'],
    meaning:
      'whether calls of a guest or its device model can replace identity and MMIO entries: no, or as before XSA-378',
  },
  'rmrr-identity': {
    values: ['p2m', 'iommu-only'],
    meaning:
      'where reserved regions are mapped 1:1: in the p2m, or as in 2014 only in the IOMMU’s own tables (nowhere if shared)',
  },
  lock: {
    values: ['whole-op', 'per-batch'],
    meaning: 'how long lending and revoking hold the p2m lock: over all pages of a call, or over a batch of them',
  },
  'lock.batch': {
    values: ['64', '1', '8', '512', '4096'],
    meaning: 'extents (4K or 2M pages) of a batch where `lock` is per-batch',
  },
  'lend.shared-tables': {
    values: ['refuse', 'allow'],
    meaning:
      "whether memory may be lent to a domain whose devices walk the CPU's tables: their accesses cannot fault and be replayed",
  },
  'lend.tables': {
    values: ['pre-split', 'on-demand'],
    meaning:
      'when the tables that revoking single pages takes are made: when a window is opened, or when they are needed',
  },
  'lend.frames': {
    values: ['counted', 'uncounted'],
    meaning:
      "whether a lent page holds a reference of its frame and a dying lender's windows are closed before its memory goes",
  },
  'lend.hypercalls': {
    values: ['hole', 'visible'],
    meaning: "what a borrower's hypercalls find at a lent page: nothing, or a frame that they take a reference of",
  },
  'p2m.lookup': {
    values: ['held', 'stale'],
    meaning:
      'whether what a call found out about a gfn still holds when it acts on it: by lock or reference, or not, as before XSA-379',
  },
  share: {
    values: ['grant', 'foreign', 'lend', 'fixed-blob'],
    meaning:
      'how a backend shows its memory to a guest: granted, mapped by it as foreign, lent and revoked, or lent once and for all',
  },
  mapping: {
    values: ['notifier', 'pin'],
    meaning: 'how that memory stays in its place: its kernel moves it and says so, or it is pinned',
  },
  'retry-check': {
    values: ['under-lock', 'hypervisor', 'before-lock', 'missing'],
    meaning:
      "who sees that a page was taken away since it was looked up: the driver under its lock, Xen by the window's sequence number, the driver too early, nobody",
  },
  'gntdev.unmap': {
    values: ['asynchronous', 'synchronous'],
    meaning:
      'whether munmap of granted pages returns at once, or waits in the notifier callback until nobody refers to them',
  },
  'gpu.callback': {
    values: ['zap', 'fence'],
    meaning:
      'what the notifier callback of a GPU driver does about a job whose GPU takes page faults: takes the entries away, or waits for its fence',
  },
  'grant.busy': {
    values: ['defer', 'ignore'],
    meaning: 'what a frontend does with a page whose grant is still in use: asks again later, or uses the page',
  },
  mediated: {
    values: ['C', 'A', 'B', 'gpa'],
    meaning:
      'what shadow GPU tables hold: gfns of a PVH dom0, machine frames with a PV dom0 mapped 1:1, bus frames above RAM (PV-IOMMU), or guest addresses unchanged',
  },
  'mediated.shadow': {
    values: ['hybrid', 'strict', 'relaxed'],
    meaning:
      'how writes to guest GPU tables are seen: trapped until they come often, always trapped, or compared at submission',
  },
  mediator: {
    values: ['right', 'walk-first', 'no-invalidate', 'tlb-late'],
    meaning:
      'a mistake of the GPU mediator: none, tables protected after they were read, ballooning unheard, or the GPU TLB flushed late',
  },
  'pv-iommu': {
    values: ['right', 'drop-in-op', 'reuse-unflushed', 'one-flag'],
    meaning:
      'a mistake of PV-IOMMU: none, references dropped before a batch is flushed, bus frames reused unflushed, or one reference for all mediators',
  },
} as const satisfies Record<string, Knob>;

export type KnobName = keyof typeof knobs;

/** Every knob with its value. */
export type Policies = { readonly [K in KnobName]: (typeof knobs)[K]['values'][number] };

const isKnob = (name: string): name is KnobName => Object.hasOwn(knobs, name);

export const knobNames: readonly KnobName[] = Object.keys(knobs).filter(isKnob);

/** What is wrong with `knob: value`, or null. */
export function policyMistake(knob: string, value: unknown): Words | null {
  if (!isKnob(knob)) {
    const guess = closestName(knob, knobNames);
    return {
      message: `unknown policy \`${knob}\`${guess ? ` (did you mean \`${guess}\`?)` : ''}`,
      remedy: `policies: ${knobNames.join(', ')}`,
    };
  }
  const values: readonly string[] = knobs[knob].values;
  if (typeof value === 'string' && values.includes(value)) return null;
  const guess = typeof value === 'string' ? closestName(value, values) : undefined;
  return {
    message: `\`${knob}\` cannot be ${show(value)}${guess ? ` (did you mean \`${guess}\`?)` : ''}`,
    remedy:
      typeof value === 'boolean' && values.includes('on')
        ? `write ${value ? 'on' : 'off'}`
        : `use one of: ${values.join(', ')} (the first is what Xen does today)`,
  };
}

/** All knobs: those given, the rest by default. `given` must have passed `policyMistake`. */
export function resolvePolicies(given: Readonly<Record<string, unknown>>): Policies {
  for (const [knob, value] of Object.entries(given)) {
    const mistake = policyMistake(knob, value);
    if (mistake) throw new Error(`resolvePolicies: ${mistake.message}`);
  }
  const entries = knobNames.map((knob) => [knob, given[knob] ?? knobs[knob].values[0]]);
  return Object.fromEntries(entries) as Policies; // each knob once, each value checked above
}

/** The knobs the model knows, by its own names; the rest (`libxl-pod-check`, `rdm-parser`, `squeezed`) belong to the toolstack. */
export function modelPolicies(policies: Policies): ModelPolicies {
  return {
    shatter: policies.shatter,
    podWithPassthrough: policies['pod-with-passthrough'],
    iommuTables: policies['iommu.tables'],
    iommuSuperpages: policies['iommu.superpages'],
    iotlbFlush: policies['iotlb.flush'],
    cpuFlush: policies['cpu.flush'],
    balloonOrder: policies['balloon.order'],
    foreignMapPlace: policies['foreign-map.place'],
    ats: policies.ats,
    p2mLockHold: policies.lock,
    p2mLockBatch: policies['lock.batch'],
    lendSharedTables: policies['lend.shared-tables'],
    specialEntries: policies['special-entries'],
    rmrrIdentity: policies['rmrr-identity'],
    mediated: policies.mediated,
    gpuShadow: policies['mediated.shadow'],
    mediator: policies.mediator,
    pvIommu: policies['pv-iommu'],
    lendTables: policies['lend.tables'],
    lendFrames: policies['lend.frames'],
    lendHypercalls: policies['lend.hypercalls'],
    p2mLookup: policies['p2m.lookup'],
    share: policies.share,
    mapping: policies.mapping,
    retryCheck: policies['retry-check'],
    gntdevUnmap: policies['gntdev.unmap'],
    gpuCallback: policies['gpu.callback'],
    grantBusy: policies['grant.busy'],
  };
}
