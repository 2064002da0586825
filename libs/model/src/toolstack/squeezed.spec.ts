import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  firstPhase,
  isUncooperative,
  proportionalTargets,
  type SqueezedDomain,
  type SqueezedHost,
  Squeezer,
} from './squeezed.ts';

const domain = (domid: number, more: Partial<SqueezedDomain> = {}): SqueezedDomain => ({
  domid,
  canBalloon: true,
  dynamicMinKb: 1000,
  dynamicMaxKb: 3000,
  targetKb: 2000,
  actualKb: 2000,
  ...more,
});
const all = (): boolean => true;

describe('the proportional policy', () => {
  it('puts every domain at the same fraction of its range', () => {
    const host = {
      freeKb: 516,
      domains: [domain(1), domain(2, { dynamicMinKb: 500, dynamicMaxKb: 1500, actualKb: 1000 })],
    };
    // freeable 992 + 492, free 516: 2000 to share over ranges of 2000 + 1000.
    expect(proportionalTargets(host, 0, all)).toEqual([
      { domid: 1, kb: 1000 + Math.trunc((2000 / 3000) * 2000) },
      { domid: 2, kb: 500 + Math.trunc((2000 / 3000) * 1000) },
    ]);
  });

  it('leaves domains without a range where they are', () => {
    const fixed = domain(1, { dynamicMinKb: 2000, dynamicMaxKb: 2000 });
    expect(proportionalTargets({ freeKb: 0, domains: [fixed] }, 0, all)).toEqual([{ domid: 1, kb: 2000 }]);
  });

  it('never sets a target outside a range, whatever the host looks like (property)', () => {
    const kb = fc.nat(10_000_000);
    const domains = fc.array(fc.record({ min: kb, range: kb, actual: kb }), { maxLength: 6 });
    fc.assert(
      fc.property(kb, kb, domains, (freeKb, wanted, list) => {
        const host = {
          freeKb,
          domains: list.map(({ min, range, actual }, i) =>
            domain(i + 1, { dynamicMinKb: min, dynamicMaxKb: min + range, actualKb: actual }),
          ),
        };
        for (const [i, target] of proportionalTargets(host, wanted, all).entries()) {
          expect(target.kb).toBeGreaterThanOrEqual(host.domains[i]?.dynamicMinKb ?? 0);
          expect(target.kb).toBeLessThanOrEqual(host.domains[i]?.dynamicMaxKb ?? 0);
        }
      }),
    );
  });

  it('releases memory before anyone grows', () => {
    const host = { freeKb: 0, domains: [domain(1), domain(2)] };
    const both = [
      { domid: 1, kb: 1500 },
      { domid: 2, kb: 2500 },
    ];
    expect(firstPhase(host, both)).toEqual([{ domid: 1, kb: 1500 }]);
    const grown = { freeKb: 0, domains: [domain(1, { actualKb: 1502 }), domain(2)] };
    expect(firstPhase(grown, both)).toEqual(both);
  });
});

describe('one request', () => {
  /** A world where cooperating domains reach a target a round after it is set. */
  function play(start: SqueezedHost, squeezer: Squeezer, cooperate: (domid: number) => boolean) {
    let host = start;
    const writes: string[] = [];
    for (let now = 0; now < 60_000; now += 1_000) {
      const step = squeezer.step(host, now);
      for (const { domid, kb } of step.targets) writes.push(`${now / 1000}s d${domid}=${kb}`);
      if (step.end) return { end: step.end, writes, now };
      const targets = new Map(step.targets.map(({ domid, kb }) => [domid, kb]));
      let { freeKb } = host;
      const domains = host.domains.map((d) => {
        const targetKb = targets.get(d.domid) ?? d.targetKb;
        const actualKb = cooperate(d.domid) ? d.targetKb : d.actualKb;
        freeKb += d.actualKb - actualKb;
        return { ...d, targetKb, actualKb };
      });
      host = { freeKb, domains };
    }
    return { end: null, writes, now: 60_000 };
  }
  const swap: SqueezedHost = {
    freeKb: 0,
    domains: [
      domain(1, { dynamicMinKb: 1500, dynamicMaxKb: 1500 }),
      domain(2, { dynamicMinKb: 2500, dynamicMaxKb: 2500 }),
    ],
  };
  const request = { wantedFreeKb: 0, enough: () => true, shortcut: false };

  it('swaps memory between two guests: one is told to shrink, and only then the other to grow', () => {
    const { end, writes } = play(swap, new Squeezer(request), all);
    expect(end).toEqual({ end: 'done' });
    expect(writes).toEqual(['0s d1=1500', '2s d2=2500']);
  });

  it('gives up on a domain that has not moved for more than 5 s and names it', () => {
    const host = { freeKb: 0, domains: [domain(1)] };
    const stubborn = new Squeezer({ wantedFreeKb: 900, enough: (kb) => kb >= 900, shortcut: true });
    const { end, now } = play(host, stubborn, () => false);
    expect(end).toEqual({ end: 'refused', domids: [1] });
    expect(now).toBe(7_000);
  });

  it('says that so much cannot be freed when everybody has given what they could', () => {
    const host = { freeKb: 0, domains: [domain(1)] };
    const greedy = new Squeezer({ wantedFreeKb: 5000, enough: (kb) => kb >= 5000, shortcut: true });
    expect(play(host, greedy, all).end).toEqual({ end: 'cannot-free' });
  });

  it('ends at once when enough is free and everybody is at target', () => {
    const done = new Squeezer({ wantedFreeKb: 100, enough: (kb) => kb >= 100, shortcut: true });
    expect(done.step({ freeKb: 200, domains: [domain(1)] }, 0).end).toEqual({ end: 'done' });
  });

  it('limits a stuck domain to what it has, and everybody else to their target', () => {
    const squeezer = new Squeezer(request);
    squeezer.step(swap, 0);
    const stuck = { ...swap, domains: swap.domains.map((d) => ({ ...d, targetKb: d.dynamicMinKb })) };
    squeezer.step(stuck, 1_000);
    expect(squeezer.step(stuck, 7_000).limits).toEqual([
      { domid: 1, kb: 1500 },
      { domid: 2, kb: 2500 },
    ]);
  });

  it('a domain is uncooperative after more than 20 s off target, not before', () => {
    expect([20_000, 20_001].map((now) => isUncooperative(0, now))).toEqual([false, true]);
  });
});
