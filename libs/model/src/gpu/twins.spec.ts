// Twins of the mediated GPU, each in the order of events that does the harm; the same races with threads are in gpu-races.spec.ts.
import { describe, expect, it } from 'vitest';
import {
  addVirtualGpu,
  bootGpuHost,
  engineOn,
  gpuGuest,
  gpuOf,
  gpuWrite,
  otherGpu,
  portOf,
  startPpgtt,
  testGpu,
  type VirtualGpu,
} from '../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, type Testbed } from '../../test-support/hypercall-fixture.ts';
import { deviceConfig } from '../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { sbdf } from '../frames/addresses.ts';
import { dmaCpu, Host } from '../host.ts';
import type { HostConfig, ModelPolicies } from '../host-config.ts';
import type { Answer, AnswerOf, Call, Extents, Hypercalls } from '../hypercall/calls.ts';
import { checkInvariants } from '../invariants/check.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { busDesign } from './bus-design.ts';
import { GuestGpu } from './guest-gpu.ts';
import { Mediator } from './mediator.ts';
import { makePte } from './pte.ts';
import { VirtualFunction } from './virtual-function.ts';

const RW = 3;

const events = (bed: Testbed): string[] => bed.log.violations.map(({ invariant }) => invariant);
const states = (bed: Testbed): string[] => [...new Set(checkInvariants(bed.h).map(({ invariant }) => invariant))];
const tagAt = (bed: Testbed, d: Domain, gfn: number): number =>
  bed.h.frames.tag[peekEntry(bed.h, d, gfn, new Leaf())] as number;

function guestWithGpu(
  some: Partial<ModelPolicies>,
  overrides: Partial<HostConfig> = {},
): {
  bed: Testbed;
  d: Domain;
  v: VirtualGpu;
} {
  const bed = bootGpuHost(some, overrides);
  const d = gpuGuest(bed, 64);
  return { bed, d, v: addVirtualGpu(bed, d) };
}

/** A port that lets something happen right after the answer to a call, before whoever asked goes on. */
function interrupted(port: Hypercalls, then: (call: Call) => void): Hypercalls {
  const call = <C extends Call>(c: C): AnswerOf<C['op']> => {
    const answer = port.call(c);
    then(c);
    return answer;
  };
  return { call, multicall: (calls) => calls.map((c): Answer => call(c)) };
}

const giveUp = (bed: Testbed, d: Domain, gfn: number): number =>
  hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents: { start: gfn, count: 1 } }).rc;

describe('balloon-vs-shadow', () => {
  const run = (some: Partial<ModelPolicies>): Testbed => {
    const { bed, d, v } = guestWithGpu(some);
    const engine = engineOn(bed);
    startPpgtt(v, [20]);
    gpuWrite(engine, d, 0, 1);
    // Xen's INVALIDATE comes when the pages have left already; the job runs on meanwhile.
    v.driver.balloonOut(
      interrupted(portOf(bed, d), () => gpuWrite(engine, d, 0, 2)),
      [20],
    );
    gpuWrite(engine, d, 0, 3);
    v.driver.submit(0);
    gpuWrite(engine, d, 0, 4);
    return bed;
  };

  it('A: the page is free before the mediator hears of it, and the GPU writes there', () => {
    expect(events(run({ mediated: 'A' }))).toEqual(['noGpuReachIntoFreedFrame']);
  });

  for (const mediated of ['B', 'C'] as const) {
    it(`${mediated}: a reference keeps the page until the shadow is gone`, () => {
      const bed = run({ mediated });
      expect(events(bed)).toEqual([]);
      expectSound(bed);
    });
  }

  it('a mediator that does not hear of it leads the GPU to a page that the guest no longer has at that gfn', () => {
    const { bed, d, v } = guestWithGpu({ mediated: 'C', mediator: 'no-invalidate' });
    startPpgtt(v, [20]);
    v.driver.balloonOut(portOf(bed, d), [20]);
    const extents = { start: 20, count: 1 };
    d.r.maxPages++;
    hypercall(bed, d, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents });
    expect(states(bed)).toEqual(['shadowAgreesWithGuestTable']);
  });
});

/** Does the call ask for that frame of the guest, on its way into a shadow? */
function asksFor(call: Call, gfn: number): boolean {
  const among = (list: Extents): boolean => 'frames' in list && Array.from(list.frames).includes(gfn);
  switch (call.op) {
    case 'gfn_to_mfn':
      return among(call.gfns);
    case 'add_to_physmap_batch':
      return among(call.idxs);
    case 'iommu_op':
      return call.ops.some((op) => op.kind === 'map_foreign_page' && op.gfn === gfn);
    default:
      return false;
  }
}

describe('stale-translate', () => {
  /** The guest gives the page up between the answer to the mediator's call and its use. */
  const run = (mediated: ModelPolicies['mediated']): Testbed => {
    const { bed, d, v } = guestWithGpu({ mediated });
    const port = interrupted(portOf(bed, bed.dom0), (call) => {
      if (asksFor(call, 20)) expect(giveUp(bed, d, 20)).toBe(1);
    });
    const mediator = new Mediator(bed.h, port, v.gpu);
    startPpgtt({ ...v, driver: new GuestGpu(bed.h, d, v.gpu, () => mediator.serve()) }, [20]);
    gpuWrite(engineOn(bed), d, 0, 5);
    return bed;
  };

  it('A: what the query answered is stale when the shadow entry is written', () => {
    const bed = run('A');
    expect(events(bed)).toEqual(['noGpuReachIntoFreedFrame']);
    expect(states(bed)).toEqual(['shadowEntryHoldsItsFrame']);
  });

  for (const mediated of ['B', 'C'] as const) {
    it(`${mediated}: look-up and reference are one step, so the page is the guest’s still`, () => {
      const bed = run(mediated);
      expect(events(bed)).toEqual([]);
      expectSound(bed);
    });
  }
});

describe('gpa-collision', () => {
  const run = (mediated: ModelPolicies['mediated']): { bed: Testbed; first: Domain; second: Domain } => {
    const bed = bootGpuHost({ mediated });
    const [first, second] = [gpuGuest(bed, 64), gpuGuest(bed, 64)];
    const engine = engineOn(bed);
    for (const d of [first, second]) startPpgtt(addVirtualGpu(bed, d), [20]);
    gpuWrite(engine, first, 0, 900);
    gpuWrite(engine, second, 0, 901);
    return { bed, first, second };
  };

  it('gpa: one table for the device, and both guests’ gfn 20: the first one’s job writes the second one’s page', () => {
    const { bed, first, second } = run('gpa');
    expect(events(bed)).toEqual(['noGpuReachIntoForeignFrame']);
    expect([tagAt(bed, first, 20), tagAt(bed, second, 20)]).toEqual([21, 901]);
  });

  for (const mediated of ['A', 'B', 'C'] as const) {
    it(`${mediated}: each job reaches its own guest’s page`, () => {
      const { bed, first, second } = run(mediated);
      expect([events(bed), tagAt(bed, first, 20), tagAt(bed, second, 20)]).toEqual([[], 900, 901]);
      expectSound(bed);
    });
  }
});

describe('sriov-no-shadow', () => {
  it('has no collision without any shadow: the function’s own tables make the same guest address two frames', () => {
    const pf = testGpu.sbdf;
    const functions = [sbdf(0, 0, 2, 1), sbdf(0, 0, 2, 2)];
    const devices = [
      ...smallConfig().devices,
      ...functions.map((vf) => deviceConfig(vf, 'vf', { physicalFunction: pf, pciClass: 0x030000 })),
    ];
    const bed = bootGpuHost({}, { devices });
    const guests = functions.map((vf) => {
      const d = gpuGuest(bed, 64, true);
      expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: vf, flags: 0 }).rc).toBe(0);
      const driver = new GuestGpu(bed.h, d, gpuOf(bed), null);
      expect(driver.buildTable([0, 1, 2, 3], [20, 21])).toBe(0);
      return d;
    });
    const hardware = new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.log);
    for (const [i, vf] of functions.entries()) {
      const unit = new VirtualFunction(hardware, 0, vf);
      expect(unit.access(0, 4, 0, true, 700 + i)).toBe(0);
      expect(unit.access(0, 4, 1, false, 0)).toBe(0);
      expect(unit.dma.tag).toBe(22);
    }
    expect(guests.map((d) => tagAt(bed, d, 20))).toEqual([700, 701]);
    expect([events(bed), bed.h.counters.read('gpu.shadowWrite'), bed.h.counters.read('gpu.ioreq')]).toEqual([[], 0, 0]);
    expectSound(bed);
  });
});

describe('two-mediators', () => {
  const run = (pvIommu: ModelPolicies['pvIommu']): { bed: Testbed; d: Domain } => {
    const { bed, d, v } = guestWithGpu({ mediated: 'B', pvIommu }, { mediatedGpus: [testGpu, otherGpu] });
    const w = addVirtualGpu(bed, d, 1);
    startPpgtt(v, [20]);
    // The other mediator finds the page mapped already; the table pages are the first one's to trap.
    expect(w.driver.createRoot(0, 0)).toBe(0);
    expect(w.driver.submit(0)).toBe(0);
    const engine = engineOn(bed, 1);
    expect(gpuWrite(engine, d, 0, 1)).toBe(0);
    v.mediator.detach(d.domid);
    giveUp(bed, d, 20);
    gpuWrite(engine, d, 0, 2);
    return { bed, d };
  };

  it('right: a page stays while either of them uses it', () => {
    const { bed } = run('right');
    expect(events(bed)).toEqual([]);
    expectSound(bed);
  });

  it('one-flag: the first one to leave takes the mapping away from the other', () => {
    const { bed } = run('one-flag');
    expect(bed.h.counters.read('dma.faults')).toBe(1);
  });

  it('one-flag: and its bus frame then leads the other’s GPU to whatever is mapped there next', () => {
    const { bed, d } = run('one-flag');
    const stranger = gpuGuest(bed, 64);
    const base = bed.h.pvIommu.base;
    const op = { kind: 'map_foreign_page' as const, bfn: base, gfn: 5, domid: stranger.domid, flags: 11 };
    hypercall(bed, bed.dom0, { op: 'iommu_op', ops: [op] });
    gpuWrite(engineOn(bed, 1), d, 0, 3);
    expect(events(bed)).toEqual(['noGpuReachIntoForeignFrame']);
    expect(states(bed)).toContain('shadowEntryHoldsItsFrame');
  });
});

describe('domain-death-in-flight', () => {
  const run = (mediated: ModelPolicies['mediated']): { bed: Testbed; v: VirtualGpu; domid: number } => {
    const { bed, d, v } = guestWithGpu({ mediated });
    const { domid } = d;
    const engine = engineOn(bed);
    startPpgtt(v, [20, 21]);
    gpuWrite(engine, d, 0, 1);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid }).rc).toBe(0);
    gpuWrite(engine, d, 0, 2);
    return { bed, v, domid };
  };

  it('A: the job of a dead guest writes where its memory was', () => {
    const { bed } = run('A');
    expect(events(bed)).toEqual(['noGpuReachIntoFreedFrame']);
  });

  for (const mediated of ['B', 'C'] as const) {
    it(`${mediated}: the guest stays a zombie of the frames that its shadow names until its mediator lets go`, () => {
      const { bed, v, domid } = run(mediated);
      expect(events(bed)).toEqual([]);
      expect(bed.h.domain(domid)?.r.totPages).toBe(2 + 4);
      expectSound(bed);
      v.mediator.detach(domid);
      expect(bed.h.domain(domid)).toBeNull();
      expectSound(bed);
    });
  }
});

describe('the GPU’s own TLB', () => {
  const run = (mediator: ModelPolicies['mediator']): Testbed => {
    const { bed, d, v } = guestWithGpu({ mediated: 'C', mediator, gpuShadow: 'strict' });
    const stranger = gpuGuest(bed, 64);
    const w = addVirtualGpu(bed, stranger);
    const engine = engineOn(bed);
    startPpgtt(v, [20]);
    startPpgtt(w, []);
    gpuWrite(engine, d, 0, 1);
    v.driver.storePte(3, 0, 0);
    // Places are reused in turn: here the turn comes at once.
    v.gpu.window[v.gpu.window.length - 1] = 0;
    const design = busDesign(bed.h, portOf(bed, bed.dom0), v.gpu);
    for (let i = 0; i < 8; i++) design.map(stranger.domid, [5 + i]);
    gpuWrite(engine, d, 0, 2);
    return bed;
  };

  it('is flushed before dom0’s gfn is given up: afterwards there is nothing at that address', () => {
    expect(events(run('right'))).toEqual([]);
  });

  it('tlb-late: an IOTLB flush alone does not help, it leads to what dom0 maps there next', () => {
    expect(events(run('tlb-late'))).toEqual(['noGpuReachIntoForeignFrame']);
  });
});

describe('a write between reading a table and protecting it', () => {
  /** A second vCPU writes an entry when the mediator has mapped frames for what it read; true: that write would trap. */
  const run = (mediator: ModelPolicies['mediator']): { bed: Testbed; trapped: boolean } => {
    const { bed, d, v } = guestWithGpu({ mediated: 'C', mediator });
    v.driver.buildTable([0, 1, 2, 3], [20]);
    let trapped = false;
    const port = interrupted(portOf(bed, bed.dom0), (call) => {
      if (!asksFor(call, 20)) return;
      const leaf = new Leaf();
      peekEntry(bed.h, d, 3, leaf);
      trapped = leaf.type === p2mType.ioreqServer;
      if (!trapped) new GuestGpu(bed.h, d, v.gpu, null).storePte(3, 1, makePte(21, RW));
    });
    const late = new Mediator(bed.h, port, v.gpu);
    new GuestGpu(bed.h, d, v.gpu, () => late.serve()).createRoot(0, 0);
    return { bed, trapped };
  };

  it('walk-first: is never seen', () => {
    expect(states(run('walk-first').bed)).toEqual(['shadowAgreesWithGuestTable']);
  });

  it('right: traps', () => {
    const { bed, trapped } = run('right');
    expect(trapped).toBe(true);
    expectSound(bed);
  });
});
