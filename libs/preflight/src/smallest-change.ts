// The smallest change of mmio_hole, rdm_mem_boundary, memory or a device's policy that makes a guest's layout work, found by planning
// the guest again with each candidate. Owns the search, over the values xl accepts; no formula stands in for a plan.
import type { RdmPolicy } from '#model/toolstack/construct-rdm';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { type GuestLayout, guestLayoutOf, type PlanningHost } from './guest-layout.ts';
import { type LayoutProblem, layoutProblems } from './layout-problems.ts';
import { bdfText } from './machine.ts';
import { POD_WITH_DEVICE } from './memory-report.ts';
import { counted, KIB_PER_MIB } from './ranges.ts';

export interface Change {
  readonly key: 'mmio_hole' | 'rdm_mem_boundary' | 'memory' | 'maxmem' | 'rdm_policy';
  /** The line of the configuration. */
  readonly line: string;
  /** What it does, and what it costs. */
  readonly effect: string;
  /** The guest as it would be. */
  readonly layout: GuestLayout;
}

/** xl's range for mmio_hole, in MiB. */
const HOLE_MIN = 256;
const HOLE_MAX = 3840;
/** Plans of the first pass over a range of values. */
const COARSE_PLANS = 64;
const LEAST_MEMORY = 64;

type Plan = { readonly problems: readonly LayoutProblem[]; readonly layout: GuestLayout };
type Try = (value: number) => Plan;

const without = (problems: readonly LayoutProblem[], accepted: ReadonlySet<string>): boolean =>
  problems.every(({ key }) => accepted.has(key));

/** Changes that leave no problem, or at least only those that no such change can cure; the least one of each key. */
export function smallestChanges(host: PlanningHost, config: GuestConfig): Change[] {
  const plan = (changed: GuestConfig): Plan => {
    const layout = guestLayoutOf(host, changed);
    return { layout, problems: layoutProblems(host, changed, layout) };
  };
  const now = plan(config);
  if (config.type === 'hvm' && now.layout.refusal?.message === POD_WITH_DEVICE) return wholeMemory(config, plan);
  if (config.type !== 'hvm' || now.problems.length === 0) return [];
  const search = new Search(config, now, plan);
  const changes = [search.hole(), search.boundary(), search.memory()].filter((change) => change !== null);
  return changes.length > 0 ? changes : search.relaxed(host);
}

/** Below its maximum: down to what it has, or up to what it may have, where the rest of the plan then works. */
function wholeMemory(config: GuestConfig, plan: (config: GuestConfig) => Plan): Change[] {
  const { targetMemkb, maxMemkb } = config;
  if (targetMemkb === null || maxMemkb === null) return [];
  const candidates: readonly (readonly [Change['key'], number, string])[] = [
    ['maxmem', targetMemkb, 'the memory it has now, and no more'],
    ['memory', maxMemkb, 'all it may have, from the start'],
  ];
  return candidates.flatMap(([key, memkb, effect]) => {
    const { layout, problems } = plan({ ...config, targetMemkb: memkb, maxMemkb: memkb });
    if (problems.some(({ tolerated }) => !tolerated)) return [];
    return [{ key, line: `${key} = ${Math.floor(memkb / KIB_PER_MIB)}`, effect, layout }];
  });
}

class Search {
  readonly #config: GuestConfig;
  readonly #now: Plan;
  readonly #plan: (config: GuestConfig) => Plan;

  constructor(config: GuestConfig, now: Plan, plan: (config: GuestConfig) => Plan) {
    this.#config = config;
    this.#now = now;
    this.#plan = plan;
  }

  hole(): Change | null {
    const present = this.#config.mmioHoleMemkb / KIB_PER_MIB;
    const attempt: Try = (mib) => this.#plan({ ...this.#config, mmioHoleMemkb: mib * KIB_PER_MIB });
    const found = this.#least(attempt, HOLE_MIN, HOLE_MAX, (mib) => mib !== present);
    if (found === null) return null;
    const { mib, layout } = found;
    const smaller = mib > HOLE_MIN ? `, ${mib - 1} is not enough` : '';
    const effect = `RAM from ${4096 - mib} MiB on moves above 4 GiB${smaller}`;
    return { key: 'mmio_hole', line: `mmio_hole = ${mib}`, effect, layout };
  }

  /** The highest boundary below the present one: the fewer regions move RAM, the better. */
  boundary(): Change | null {
    const present = (this.#config.rdmMemBoundaryMemkb ?? 2048 * KIB_PER_MIB) / KIB_PER_MIB;
    const attempt: Try = (below) =>
      this.#plan({ ...this.#config, rdmMemBoundaryMemkb: (present - below) * KIB_PER_MIB });
    const found = this.#least(attempt, 1, Math.floor(present), () => true);
    if (found === null) return null;
    const mib = present - found.mib;
    const effect = `low RAM ends below the reserved regions above ${mib} MiB, ${mib + 1} is too high`;
    return { key: 'rdm_mem_boundary', line: `rdm_mem_boundary = ${mib}`, effect, layout: found.layout };
  }

  memory(): Change | null {
    const present = Math.floor((this.#config.maxMemkb ?? 0) / KIB_PER_MIB);
    const attempt: Try = (less) => {
      const memkb = (present - less) * KIB_PER_MIB;
      return this.#plan({ ...this.#config, maxMemkb: memkb, targetMemkb: memkb });
    };
    const found = this.#least(attempt, 1, present - LEAST_MEMORY, () => true);
    if (found === null) return null;
    const mib = present - found.mib;
    const effect = `${found.mib} MiB less, so that RAM ends below what it collides with; ${mib + 1} is too much`;
    return { key: 'memory', line: `memory = ${mib}`, effect, layout: found.layout };
  }

  /** Where nothing moves the RAM away: the devices whose regions collide, let go with the relaxed policy. */
  relaxed(host: PlanningHost): Change[] {
    const strict = this.#config.pci.filter(
      (pci) => pci.rdmPolicy !== 'relaxed' && host.rdm.forDevice(pciSbdf(pci)).length > 0,
    );
    if (strict.length === 0) return [];
    const relaxed: RdmPolicy = 'relaxed';
    const pci = this.#config.pci.map((device) =>
      strict.includes(device) ? { ...device, rdmPolicy: relaxed } : device,
    );
    const config = { ...this.#config, pci };
    const now = this.#plan(config);
    if (now.problems.some(({ tolerated, code }) => !tolerated && code !== 'RDM-CONFLICT')) return [];
    const specs = pci.map(
      (device) => `'${bdfText(pciSbdf(device))}${device.rdmPolicy === relaxed ? ',rdm_policy=relaxed' : ''}'`,
    );
    const line = `pci = [ ${specs.join(', ')} ]`;
    if (now.problems.length === 0) {
      return [
        { key: 'rdm_policy', line, effect: 'Xen lets the device go although its region is shared', layout: now.layout },
      ];
    }
    const hole = new Search(config, now, this.#plan).hole();
    const kept = hole?.layout.rdms.filter(({ policy }) => policy === 'invalid').length ?? 0;
    const low = kept > 0 ? `; ${counted(kept, 'region')} cannot be kept free by any` : '';
    if (hole) {
      return [
        { key: 'rdm_policy', line: `${line} and ${hole.line}`, effect: `${hole.effect}${low}`, layout: hole.layout },
      ];
    }
    const effect =
      'the guest starts, but RAM stays over the region: only for devices that do not use it once a driver runs';
    return [{ key: 'rdm_policy', line, effect, layout: now.layout }];
  }

  /**
   * The least value of [from, to] whose plan leaves only problems that every value leaves. A first pass over all the range, then
   * halving between the last value that fails and the first that works; the plan of the value below is known to fail.
   */
  #least(
    attempt: Try,
    from: number,
    to: number,
    allowed: (mib: number) => boolean,
  ): { readonly mib: number; readonly layout: GuestLayout } | null {
    const coarse = coarseValues(from, to).map((mib) => ({ mib, ...attempt(mib) }));
    const accepted = incurable(this.#now, coarse);
    if (without(this.#now.problems, accepted)) return null;
    const index = coarse.findIndex(({ problems }) => without(problems, accepted));
    const first = coarse[index];
    if (first === undefined) return null;
    let [fails, works] = [coarse[index - 1]?.mib ?? from - 1, first.mib];
    let best: Plan = first;
    while (works - fails > 1) {
      const mib = Math.floor((fails + works) / 2);
      const tried = attempt(mib);
      if (without(tried.problems, accepted)) [works, best] = [mib, tried];
      else fails = mib;
    }
    return allowed(works) ? { mib: works, layout: best.layout } : null;
  }
}

function coarseValues(from: number, to: number): number[] {
  if (to < from) return [];
  const step = Math.max(1, Math.ceil((to - from) / COARSE_PLANS));
  const values: number[] = [];
  for (let mib = from; mib < to; mib += step) values.push(mib);
  return [...values, to];
}

/** What is wrong now and with every value tried, as long as it does not stop the guest. */
function incurable(now: Plan, tried: readonly Plan[]): ReadonlySet<string> {
  const keys = now.problems.filter(({ tolerated }) => tolerated).map(({ key }) => key);
  return new Set(keys.filter((key) => tried.every(({ problems }) => problems.some((problem) => problem.key === key))));
}
