import { describe, expect, it } from 'vitest';
import { bootWithDom0, deviceConfig, GPU, ioDomain, policies, USB } from '../../test-support/iommu-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import type { HostConfig } from '../host-config.ts';
import { slotFrame } from '../p2m/entry.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { installSeam, type StepKind, stepKind } from '../shared-memory/step.ts';
import { type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import { assignDevice, deassignDevice } from './assign.ts';
import { DmaThread } from './dma.ts';
import { identityMaps } from './identity-mapping.ts';

const fallible: readonly StepKind[] = [
  stepKind.ptAlloc,
  stepKind.frameAlloc,
  stepKind.p2mWrite,
  stepKind.ioWrite,
  stepKind.ctxWrite,
];
let seen = 0;
let failAt = 0;
installSeam({
  step: (kind) => {
    if (!fallible.includes(kind)) return 0;
    return ++seen === failAt ? 12 : 0;
  },
});

/** Runs `body` with its n-th fallible step failing (0: none). Answers how many such steps it met. */
function withFault(n: number, body: () => void): number {
  seen = 0;
  failAt = n;
  body();
  failAt = 0;
  return seen;
}

const config: Partial<HostConfig> = {
  heapRanges: [{ start: 0x10, end: 0x3c00 }],
  policies: policies({ iommuSuperpages: 'off' }),
  devices: [deviceConfig(GPU, 'gpu'), deviceConfig(USB, 'usb')],
  rmrrs: [
    { startPfn: 0x3d00, endPfn: 0x3d01, devices: [GPU] },
    { startPfn: 0x3f00, endPfn: 0x3f01, devices: [GPU] },
  ],
};
const RESERVED = [0x3d00, 0x3d01, 0x3f00, 0x3f01];

function treeSize(h: Host, table: number, level: number): number {
  if (table === 0) return 0;
  let sum = 1;
  for (let i = 0; level > 0 && i < 512; i++) {
    const slot = h.tables.read(table as TableIndex, i);
    if ((slot & 3) !== 0) sum += treeSize(h, slotFrame(slot), level - 1);
  }
  return sum;
}

function nobodysTables(h: Host): number {
  let sum = 0;
  for (let table = 1; table < h.tables.pages; table++) {
    const t = table as TableIndex;
    if (h.tables.useOf(t) === tableUse.iommu && h.tables.domainSlotOf(t) === h.config.maxDomains) sum++;
  }
  return sum;
}

function state(h: Host, d: Domain): unknown {
  const leaf = new Leaf();
  return {
    context: h.iommu.contexts[0],
    owner: h.iommu.ownerOf(0),
    // Nobody's tables are all part of the device's quarantine tree.
    lost: nobodysTables(h) - treeSize(h, h.iommu.quarantineRoots[0] as number, 3),
    counts: [h.dom0.r.deviceCount, d.r.deviceCount, h.iommu.unitUse(0, 0), h.iommu.unitUse(d.slot, 0)],
    maps: identityMaps(d),
    dom0Maps: identityMaps(h.dom0),
    types: RESERVED.map((g) => {
      peekEntry(h, d, g, leaf);
      return leaf.type;
    }),
  };
}

describe('assignment when a step of it fails', () => {
  it('has no side effect, whichever step it is, and works when it is tried again', () => {
    let steps = 1;
    for (let n = 0; n <= steps; n++) {
      const { h } = bootWithDom0(config);
      const d = ioDomain(h, 1);
      const before = state(h, d);
      let rc = 1;
      const met = withFault(n, () => {
        rc = assignDevice(h, d, GPU, 0);
      });
      if (n === 0) {
        expect(rc).toBe(0);
        steps = met;
        expect(steps).toBeGreaterThan(5);
        continue;
      }
      // A domain whose IOMMU map fails is crashed besides (as in Xen): its p2m may then lack the mirror.
      if (rc !== 0) expect(state(h, d), `step ${n} of ${steps}`).toEqual(before);
      expect(assignDevice(h, d, GPU, 0), `again after step ${n}`).toBe(rc === 0 ? -16 : 0);
    }
  });

  it('never leaves the device with tables of a domain that lost it: deassignment works, or changes nothing', () => {
    let steps = 1;
    for (let n = 0; n <= steps; n++) {
      const { h } = bootWithDom0(config);
      const d = ioDomain(h, 1);
      expect(assignDevice(h, d, GPU, 0)).toBe(0);
      const before = state(h, d);
      let rc = 1;
      const met = withFault(n, () => {
        rc = deassignDevice(h, d, GPU);
      });
      if (n === 0) steps = met;
      if (h.iommu.ownerOf(0) === d.domid) {
        expect(rc, `step ${n}`).toBeLessThan(0);
        expect(state(h, d), `step ${n}`).toEqual(before);
      } else {
        const dma = new DmaThread(h, 0);
        for (const page of RESERVED) expect(dma.transaction(GPU, page, 'w', 1), `step ${n}`).toBe(0);
        expect(dma.transaction(GPU, 5, 'w', 1)).toBe(5);
        expect(identityMaps(d)).toEqual([]);
      }
    }
  });
});
