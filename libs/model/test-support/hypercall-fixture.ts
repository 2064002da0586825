// A small host with dom0, driven through the dispatcher as a pCPU would drive it: continuations are resumed until the call
// is done, with a preemption check that answers as the spec wants.
import { createDomain, finishCreation } from '#model/domain/create';
import type { Domain } from '#model/domain/domain';
import { unpauseDomain } from '#model/domain/pause';
import type { Host, Violation } from '#model/host';
import type { HostConfig } from '#model/host-config';
import type { AnswerOf, Call, CallOf, OpName } from '#model/hypercall/calls';
import { type ContinuationState, type Outcome, runCall } from '#model/hypercall/dispatch';
import { checkInvariants } from '#model/invariants/check';
import { bootAssignAll } from '#model/iommu/hotplug';
import { runQueuedFrees } from '#model/iommu/iommu';
import { mapOneToOne } from '#model/iommu/one-to-one';
import { bootSmall, type Recorded } from './p2m-fixture.ts';

export interface Testbed {
  readonly h: Host;
  readonly log: Recorded;
  readonly dom0: Domain;
  /** Whether a preemption check answers true. */
  preempt: () => boolean;
  /** Slices that the last call took. */
  slices: number;
}

/** Memory as a small guest needs it; 256 MiB of host RAM unless overridden. */
export function bootTestbed(overrides: Partial<HostConfig> = {}): Testbed {
  const { h, log } = bootSmall({ frames: 65_536, ...overrides });
  const spec = {
    domid: 0,
    name: 'Domain-0',
    // As boot-host.ts: a PV dom0 for the design that needs one.
    hvm: h.config.policies.mediated !== 'A',
    hap: h.config.policies.mediated !== 'A',
    iommu: h.config.iommuEnabled,
    noSharept: false,
    deviceModel: false,
    vcpus: 1,
  };
  const dom0 = createDomain(h, spec, true);
  if (typeof dom0 === 'number') throw new Error(`dom0: ${dom0}`);
  dom0.r.maxPages = 2 ** 30;
  if (!dom0.isTranslated && mapOneToOne(h, dom0) !== 0) throw new Error('dom0: no I/O tables');
  finishCreation(h, dom0);
  unpauseDomain(dom0);
  if (h.config.iommuEnabled) bootAssignAll(h);
  return { h, log, dom0, preempt: () => false, slices: 0 };
}

/** One slice. */
export function slice(bed: Testbed, from: Domain, call: Call, state: ContinuationState | null = null): Outcome {
  const outcome = runCall(bed.h, { domain: from, vcpu: 0, preempt: () => bed.preempt() }, call, state);
  runQueuedFrees(bed.h);
  return outcome;
}

/** The whole call; a call that blocks is an error of the spec. */
export function hypercall<N extends OpName>(bed: Testbed, from: Domain, call: CallOf<N> & { op: N }): AnswerOf<N> {
  let state: ContinuationState | null = null;
  for (bed.slices = 1; bed.slices < 100_000; bed.slices++) {
    const outcome = slice(bed, from, call, state);
    if (outcome.end === 'done') return outcome.answer as AnswerOf<N>; // each handler answers in its op's shape
    if (outcome.end === 'blocked') throw new Error(`${call.op} is blocked on ${JSON.stringify(outcome.on)}`);
    // What is kept must survive a trip through JSON.
    state = JSON.parse(JSON.stringify(outcome.state)) as ContinuationState | null;
  }
  throw new Error(`${call.op} does not end`);
}

export interface GuestSpec {
  readonly maxPages?: number;
  readonly iommu?: boolean;
  readonly poolPages?: number;
}

/** An HVM guest, unpaused, without memory. */
export function makeGuest(bed: Testbed, spec: GuestSpec = {}): Domain {
  const iommu = spec.iommu ?? false;
  const answer = hypercall(bed, bed.dom0, {
    op: 'createdomain',
    domid: 0,
    name: 'guest',
    hvm: true,
    hap: true,
    iommu,
    noSharept: false,
    deviceModel: true,
    vcpus: 1,
  });
  const d = bed.h.domain(answer.domid ?? -1);
  if (!d) throw new Error(`createdomain: ${answer.rc}`);
  const { domid } = d;
  hypercall(bed, bed.dom0, { op: 'max_mem', domid, maxKb: (spec.maxPages ?? 16_384) * 4 });
  hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid, bytes: (spec.poolPages ?? 512) * 4096 });
  hypercall(bed, bed.dom0, { op: 'unpausedomain', domid });
  return d;
}

/** All state invariants hold; the message names what does not. `excused`: findings that do not count. */
export function expectSound(bed: Testbed, excused: (found: Violation) => boolean = () => false): void {
  const violations = checkInvariants(bed.h).filter((found) => !excused(found));
  if (violations.length > 0) throw new Error(violations.map((v) => `${v.invariant}: ${v.text}`).join('\n'));
}
