import { beforeEach, describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, fine, finish, type TestPorts, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { tablePagesFor } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { createDomain, defaultCreateOptions } from './domain-builder.ts';
import { rebootDomain } from './domain-ops.ts';
import { readKb } from './memory-ops.ts';
import type { Pause } from './ports.ts';
import { autoBalance, reserveMemoryRange } from './squeezed-loop.ts';
import { login, totalReservedKb, transferReservation } from './squeezed-reservations.ts';
import type { SqueezedStart } from './squeezed-start.ts';

const MIB = 1024;
const FRAMES = 512 * 256;
const KEEP_FREE_KB = 9 * MIB;
const settings = { keepFreeKb: KEEP_FREE_KB, nowMs: 0 };
const pvh = (name: string, more: string) => config(`name = "${name}"\ntype = "pvh"\nkernel = "k"\n${more}\n`);

describe('a host with squeezed', () => {
  let host: RealHost;
  let ports: TestPorts;
  let started = 0;
  /** Guests whose balloon does at once what their target says; their first page to give up or take back. */
  const ballooning = new Map<number, number>();

  beforeEach(() => {
    host = new RealHost({ frames: FRAMES, tablePages: tablePagesFor(FRAMES) }, 128);
    ports = toolstackOn(host);
    ballooning.clear();
  });

  const info = (domid: number) => host.port(0).call({ op: 'getdomaininfo', domid }).info;
  const freeKb = (): number => host.h.heap.freePages * 4;
  const node = (domid: number, name: string): number | null => readKb(ports, domid, `memory/${name}`);

  function balloonAll(): void {
    for (const [domid, edge] of ballooning) {
      const offset = node(domid, 'memory-offset') ?? 0;
      const want = Math.floor(((node(domid, 'target') ?? 0) + offset) / 4);
      const have = info(domid)?.totPages ?? 0;
      const count = Math.abs(want - have);
      const port = host.port(domid);
      if (have > want) {
        port.call({ op: 'decrease_reservation', domid, order: 0, extents: { start: edge - count, count } });
        ballooning.set(domid, edge - count);
      } else if (have < want) {
        port.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: edge, count } });
        ballooning.set(domid, edge + count);
      }
    }
  }

  const play = (pause: Pause) => {
    if (pause.do === 'sleep') balloonAll();
    return fine;
  };
  const start = (): SqueezedStart => ({
    ...settings,
    reservation: { service: 'test', id: `r${++started}` },
    range: null,
  });
  const options = () => ({ ...defaultCreateOptions, squeezed: start() });

  /** A guest whose driver is up. */
  function boot(name: string, more: string) {
    const domain = built(finish(createDomain(ports, pvh(name, more), options()), play));
    const { domid, build } = domain;
    const [edge, end] = [Math.floor(build.targetMemkb / 4), Math.floor(build.maxMemkb / 4)];
    // Its driver first gives back what it was never given: the PoD entries beyond the target.
    const extents = { start: edge, count: end - edge };
    if (end > edge) host.port(domid).call({ op: 'decrease_reservation', domid, order: 0, extents });
    ports.xenstore.write(domid, 'control/feature-balloon', '1');
    ballooning.set(domid, edge);
    return domain;
  }

  it('gives a new domain what its range and the free memory allow, and remembers the range', () => {
    const domain = boot('a', 'memory = 64\nmaxmem = 96');
    expect(domain.build.targetMemkb).toBe(96 * MIB);
    expect([node(domain.domid, 'dynamic-min'), node(domain.domid, 'dynamic-max')]).toEqual([64 * MIB, 96 * MIB]);
    expect(node(domain.domid, 'initial-reservation')).toBeGreaterThan(96 * MIB);
    expect(totalReservedKb(ports, [])).toBe(0);
  });

  it('makes room for a new domain by ballooning the others down, and the next balance puts all at one fraction', () => {
    const first = boot('a', 'memory = 64\nmaxmem = 320');
    expect(first.build.targetMemkb).toBe(320 * MIB);
    const second = boot('b', 'memory = 64\nmaxmem = 320');
    const fractionOf = ({ domid }: { domid: number }) => ((node(domid, 'target') ?? 0) - 64 * MIB) / (256 * MIB);
    expect(fractionOf(first)).toBeLessThan(0.9);
    expect(second.build.podEnabled).toBe(true);
    // The policy counts a newcomer's minimum as free: it gets more than its share at first.
    expect(fractionOf(second)).toBeGreaterThan(fractionOf(first));
    expect(freeKb()).toBeGreaterThanOrEqual(KEEP_FREE_KB);
    expect(finish(autoBalance(ports, settings), play)).toMatchObject({ balanced: true });
    expect(fractionOf(first)).toBeCloseTo(fractionOf(second), 3);
    expect(freeKb()).toBeGreaterThanOrEqual(KEEP_FREE_KB - 4);
    expect(checkInvariants(host.h)).toEqual([]);
  });

  it('refuses a domain for which nobody can make room, and leaves neither domain nor reservation', () => {
    boot('a', 'memory = 256\nmaxmem = 256');
    const free = freeKb();
    const result = finish(createDomain(ports, pvh('b', 'memory = 256'), options()), play);
    expect(result).toMatchObject({
      ok: false,
      message: expect.stringMatching(/^squeezed: cannot free this much memory/),
    });
    expect(result.log.at(-1)?.text).toBe('failed to free memory for the domain');
    expect(totalReservedKb(ports, [])).toBe(0);
    expect(freeKb()).toBe(free);
  });

  it('blames a guest that does not give up memory', () => {
    const stubborn = boot('a', 'memory = 64\nmaxmem = 320');
    ballooning.clear();
    const result = finish(createDomain(ports, pvh('b', 'memory = 256'), options()), play);
    expect(result).toMatchObject({ message: `squeezed: domains refused to cooperate: ${stubborn.domid}` });
  });

  it('keeps the range over a restart, whatever the target was then', () => {
    const domain = boot('a', 'memory = 64\nmaxmem = 96');
    ports.xenstore.write(domain.domid, 'memory/target', String(70 * MIB));
    const again = built(finish(rebootDomain(ports, domain, options()), play));
    expect([node(again.domid, 'dynamic-min'), node(again.domid, 'dynamic-max')]).toEqual([64 * MIB, 96 * MIB]);
    expect(again.build.targetMemkb).toBe(96 * MIB);
  });

  it('counts a reservation as taken until a domain has it, and drops it when its service logs in again', () => {
    const reservation = { service: 'test', id: 'early' };
    const before = freeKb();
    const range = { minKb: 32 * MIB, maxKb: 32 * MIB };
    expect(finish(reserveMemoryRange(ports, reservation, range, settings))).toMatchObject({ ok: true, kb: 32 * MIB });
    const rest = { minKb: before - 40 * MIB, maxKb: before };
    const refused = finish(reserveMemoryRange(ports, { service: 'test', id: 'late' }, rest, settings));
    expect(refused).toMatchObject({ ok: false });
    expect(totalReservedKb(ports, [1])).toBe(32 * MIB);
    expect(transferReservation(ports, reservation, 1)).toBe(true);
    expect(totalReservedKb(ports, [1])).toBe(0);
    expect(totalReservedKb(ports, [])).toBe(32 * MIB);
    login(ports, 'test');
    expect(totalReservedKb(ports, [])).toBe(0);
    expect(transferReservation(ports, reservation, 1)).toBe(false);
  });

  it('the ten-second look gives freed memory to those that may have it, and leaves a balanced host alone', () => {
    const first = boot('a', 'memory = 64\nmaxmem = 320');
    boot('b', 'memory = 64\nmaxmem = 320');
    expect(finish(autoBalance(ports, settings), play)).toMatchObject({ ok: true });
    const before = node(first.domid, 'target') ?? 0;
    const second = [...ballooning.keys()].find((domid) => domid !== first.domid) ?? 0;
    host.port(0).call({ op: 'destroydomain', domid: second });
    ports.xenstore.removeDomain(second);
    ballooning.delete(second);
    expect(finish(autoBalance(ports, settings), play)).toMatchObject({ ok: true, balanced: true });
    expect(node(first.domid, 'target')).toBeGreaterThan(before + 32 * MIB);
    expect(finish(autoBalance(ports, settings), play)).toMatchObject({ balanced: false });
  });
});
