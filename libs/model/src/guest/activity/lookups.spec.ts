// What the activities about lookups do and count, with one vCPU after the other: nothing can come between two steps of a call here.
import { describe, expect, it } from 'vitest';
import { Machines } from '../../../test-support/activity-fixture.ts';
import { checkInvariants } from '../../invariants/check.ts';

const WINDOW = 0x80000;

describe('activities that change what others look up', () => {
  it('shared_info is moved by two vCPUs, and is at one place', () => {
    const machines = new Machines();
    machines.dom0();
    const guest = machines.guest({ run: 'mover' });
    expect(machines.begin(guest, 'mover', [], 40).phase).toBe('ready');
    machines.runUntil(guest, 'mover', ({ attempts }) => attempts >= 40);
    const { figures, attempts } = machines.end(guest, 'mover');
    expect(figures).toEqual({ moves: attempts, refused: 0 });
    expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
  });

  it('pages are given up and come back while they are copied into', () => {
    const machines = new Machines();
    machines.dom0();
    const guest = machines.guest({ run: 'translator', pages: 4, window: 0 });
    expect(machines.begin(guest, 'translator', [], 40).phase).toBe('ready');
    machines.runUntil(guest, 'translator', ({ attempts }) => attempts >= 40);
    const { figures } = machines.end(guest, 'translator');
    expect(figures).toMatchObject({ copies: 40, copied: 40, refused: 0 });
    expect(figures.changes).toBeGreaterThan(0);
    expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
  });

  it('registers come to a place that the guest moves memory to, and go', () => {
    const machines = new Machines();
    const dom0 = machines.dom0({ run: 'bar-placer', window: WINDOW, pages: 4, mfn: 0xf0000 });
    const guest = machines.guest({ run: 'translator', pages: 4, window: WINDOW });
    expect(machines.begin(dom0, 'bar-placer', [guest], 20).phase).toBe('ready');
    expect(machines.begin(guest, 'translator', [], 0).phase).toBe('ready');
    machines.runUntil(dom0, 'bar-placer', ({ attempts }) => attempts >= 20);
    const moved = machines.end(guest, 'translator').figures;
    const { figures } = machines.end(dom0, 'bar-placer');
    expect(figures.placed).toBeGreaterThan(0);
    expect(moved.changes).toBeGreaterThan(0);
    expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
  });
});
