// Pictures of a small real host: what is drawn is what its tables hold.
import { expect, test } from 'vitest';
import { sbdf } from '#model/frames/addresses';
import { defaultPolicies } from '#model/host-config';
import { XENMEMF_populate_on_demand } from '#model/hypercall/calls';
import { p2mType } from '#model/p2m/types';
import type { TableIndex } from '#model/shared-memory/table-pages';
import { frameStates, MAP_CELL_BYTES, STRIP_COLUMN_BYTES, STRIP_COLUMNS, stripByte } from '#wire/live';
import { bootTestbed, hypercall, makeGuest } from '../../../../libs/model/test-support/hypercall-fixture.ts';
import { deviceConfig } from '../../../../libs/model/test-support/iommu-fixture.ts';
import { FrameGround, mapCells } from './frame-map.ts';
import { frameLook, machineOf } from './looks.ts';
import { stripsOf } from './strips.ts';
import { whyOf } from './why.ts';

const GPU = sbdf(0, 0, 2, 0);

function guestWithDevice() {
  const bed = bootTestbed({
    devices: [deviceConfig(GPU, 'gpu')],
    policies: { ...defaultPolicies, iommuTables: 'separate' },
  });
  const d = makeGuest(bed, { iommu: true });
  const { domid } = d;
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid,
    order: 9,
    memFlags: 0,
    extents: { start: 0x400, count: 2 },
  });
  const assigned = hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: GPU, flags: 0 });
  expect(assigned.rc).toBe(0);
  return { bed, d };
}

test('the strips show sizes, shattering and agreement; a removed I/O entry is a disagreement at its gfn', () => {
  const { bed, d } = guestWithDevice();
  const before = stripsOf(bed.h, d, 0, 0x1000);
  expect(before.leaves).toEqual([0, 2, 0]);
  expect(before.disagreeing).toBe(0);
  hypercall(bed, bed.dom0, {
    op: 'decrease_reservation',
    domid: d.domid,
    order: 0,
    extents: { start: 0x405, count: 1 },
  });
  const after = stripsOf(bed.h, d, 0, 0x1000);
  expect(after.leaves).toEqual([511, 1, 0]);
  expect(after.disagreeing).toBe(0);
  const column = Math.floor(0x404 / (0x1000 / STRIP_COLUMNS));
  const byte = (place: number): number | undefined => after.bytes[column * STRIP_COLUMN_BYTES + place];
  expect([byte(stripByte.p2mType), byte(stripByte.p2mOrder), byte(stripByte.p2mSlivers)]).toEqual([
    p2mType.ramRw + 1,
    0,
    255,
  ]);
  expect(byte(stripByte.p2mFill)).toBeLessThan(255);
  // As a lost unmap or a missing map would leave it.
  const { slots } = bed.h.tables;
  let table: number = d.r.iommuRoot;
  let index = 0;
  for (let level = 3; ; level--) {
    index = table * 512 + (Math.floor(0x600 / 512 ** level) % 512);
    const slot = slots[index] as number;
    if (level === 0 || (slot & 8) !== 0) break;
    table = Math.floor(slot / 65_536) as TableIndex;
  }
  slots[index] = 0;
  const broken = stripsOf(bed.h, d, 0, 0x1000);
  expect(broken.disagreeing).toBeGreaterThan(0);
  expect(broken.examples[0]).toBeGreaterThanOrEqual(0x600);
});

test('pages populated on demand are RAM without a frame, and the chain of a device ends at nothing', () => {
  const { bed, d } = guestWithDevice();
  const pod = { domid: d.domid, order: 9, memFlags: XENMEMF_populate_on_demand, extents: { start: 0x800, count: 1 } };
  expect(hypercall(bed, bed.dom0, { op: 'deassign_device', domid: d.domid, sbdf: GPU }).rc).toBe(0);
  expect(hypercall(bed, bed.dom0, { op: 'populate_physmap', ...pod }).rc).toBe(1);
  const strips = stripsOf(bed.h, d, 0, 0x1000);
  expect(strips.podPages).toBe(512);
  const column = Math.floor(0x900 / (0x1000 / STRIP_COLUMNS));
  expect(strips.bytes[column * STRIP_COLUMN_BYTES + stripByte.frameless]).toBe(4);
  const why = whyOf(bed.h, GPU, 0x900);
  expect(why?.iommuEntry).toBe('absent');
  expect(whyOf(bed.h, 0xffff, 0)).toBeNull();
});

test('the map of the host counts every frame once and knows whose it is', () => {
  const { bed, d } = guestWithDevice();
  const { h } = bed;
  const cells = mapCells(h, new FrameGround(h), 0, 0);
  expect(cells.length / MAP_CELL_BYTES).toBe(Math.min(16_384, h.config.frames));
  const whole = mapCells(h, new FrameGround(h), 0, 4);
  expect(whole.length / MAP_CELL_BYTES).toBe(Math.ceil(h.config.frames / 16));
  const owned = [...Array(whole.length / MAP_CELL_BYTES).keys()].filter(
    (cell) =>
      whole[cell * MAP_CELL_BYTES] === d.domid + 1 && frameStates[whole[cell * MAP_CELL_BYTES + 2] as number] === 'ram',
  );
  expect(owned.length).toBeGreaterThanOrEqual(1024 / 16);
  const mfn = (owned[0] as number) * 16;
  const look = frameLook(h, mfn);
  expect([look?.owner, look?.state]).toEqual([d.domid, 'RAM']);
  expect(frameLook(h, h.config.frames)).toBeNull();
  expect(machineOf(h).devices.map(({ name }) => name)).toContain('gpu');
});
