// One other call runs in the middle of a call, where it has looked a gfn up and has not acted yet: on another CPU's view of the host, from
// within the first call's step. Each with what was found held, and with it stale (policy p2m.lookup).
import { beforeAll, describe, expect, it } from 'vitest';
import { bootTestbed, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { Host } from '../host.ts';
import { defaultPolicies, type ModelPolicies } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { installSeam, type StepKind, stepKind } from '../shared-memory/step.ts';
import { type Call, physmapSpace } from './calls.ts';
import { runCall } from './dispatch.ts';

let between: { readonly kind: StepKind; readonly run: () => void } | null = null;

beforeAll(() => {
  installSeam({
    step: (kind) => {
      const now = between;
      if (now === null || now.kind !== kind) return 0;
      between = null;
      now.run();
      return 0;
    },
  });
});

interface Bench {
  readonly bed: Testbed;
  readonly d: Domain;
  /** A call of the guest on the second CPU. */
  readonly beside: (call: Call) => void;
  readonly violated: () => string[];
}

const BAR = 0xf0000;

function setUp(p2mLookup: ModelPolicies['p2mLookup']): Bench {
  const bed = bootTestbed({ grantFrames: 1, maptrackFrames: 1, policies: { ...defaultPolicies, p2mLookup } });
  const d = makeGuest(bed);
  const { domid } = d;
  const extents = { start: 0, count: 32 };
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
  hypercall(bed, bed.dom0, { op: 'iomem_permission', domid, firstMfn: BAR, nrMfns: 8, allow: true });
  const other = new Host(bed.h.shared, 1, bed.h.platform);
  const beside = (call: Call): void => {
    const domain = other.domain(domid);
    if (!domain) throw new Error('the guest is gone');
    const outcome = runCall(other, { domain, vcpu: 0, preempt: () => false }, call, null);
    if (outcome.end !== 'done') throw new Error(`${call.op} did not end`);
  };
  const violated = (): string[] => [
    ...new Set([...bed.log.violations, ...checkInvariants(bed.h)].map((v) => v.invariant)),
  ];
  return { bed, d, beside, violated };
}

const place = (domid: number, gpfn: number, idx = 0, space: number = physmapSpace.sharedInfo) =>
  ({ op: 'add_to_physmap', domid, space, idx, gpfn, size: 1 }) as const;

describe('what a call found out about a gfn, and another call before it acts on it', () => {
  for (const lookup of ['stale', 'held'] as const) {
    const broken = (name: string): string[] => (lookup === 'stale' ? [name] : []);

    it(`one of Xen's pages is asked for at two places (${lookup})`, () => {
      const { bed, d, beside, violated } = setUp(lookup);
      const { domid } = d;
      expect(hypercall(bed, d, place(domid, 0x100)).rc).toBe(0);
      between = { kind: stepKind.lock, run: () => beside(place(domid, 0x200)) };
      expect(hypercall(bed, d, place(domid, 0x300)).rc).toBe(0);
      expect(violated()).toEqual(broken('m2pIsInverseOfP2m'));
    });

    it(`a page that a copy translated is given up (${lookup})`, () => {
      const { bed, d, beside, violated } = setUp(lookup);
      const { domid } = d;
      const extents = { start: 7, count: 1 };
      between = {
        kind: stepKind.read,
        run: () => beside({ op: 'decrease_reservation', domid, order: 0, extents }),
      };
      const self = 0x7ff0;
      const side = { sourceDomid: self, sourceFrame: 3, sourceOffset: 0, destDomid: self, destFrame: 7, destOffset: 0 };
      const { statuses } = hypercall(bed, d, { op: 'gnttab_copy', ops: [{ ...side, length: 8, flags: 0 }] });
      expect(statuses).toEqual([0]);
      expect(violated()).toEqual(broken('translationHeldWhileUsed'));
    });

    it(`a page moves to where a BAR is being placed (${lookup})`, () => {
      const { bed, d, beside, violated } = setUp(lookup);
      const { domid } = d;
      between = { kind: stepKind.lock, run: () => beside(place(domid, 0x500, 9, physmapSpace.gmfn)) };
      const mapping = { op: 'memory_mapping', domid, firstGfn: 0x500, firstMfn: BAR, nrMfns: 1, add: true } as const;
      expect(hypercall(bed, bed.dom0, mapping).rc).toBe(0);
      expect(between).toBeNull();
      expect(violated()).toEqual(broken('m2pIsInverseOfP2m'));
    });
  }
});
