// XenServer's squeezed: how free memory is shared out over guests that can balloon. The proportional policy as a pure function
// of a snapshot, and one request's loop as a state machine with injected time. Who takes the snapshot and applies the answer
// is squeezed-snapshot.ts and squeezed-loop.ts. All sizes KiB, all times milliseconds.

/** A domain's figures are only known to this. */
export const INACCURACY_KB = 4;
/** A domain that has not moved towards its target for longer than this does not count any more. */
const STUCK_MS = 5_000;
const UNCOOPERATIVE_MS = 20_000;

export interface SqueezedDomain {
  readonly domid: number;
  /** Its balloon driver has announced itself. */
  readonly canBalloon: boolean;
  readonly dynamicMinKb: number;
  readonly dynamicMaxKb: number;
  readonly targetKb: number;
  /** tot_pages less the domain's constant offset. */
  readonly actualKb: number;
}

export interface SqueezedHost {
  /** Free and being scrubbed, less what is reserved or not yet accounted. */
  readonly freeKb: number;
  readonly domains: readonly SqueezedDomain[];
}

export interface Target {
  readonly domid: number;
  readonly kb: number;
}

export const atTarget = ({ actualKb, targetKb }: SqueezedDomain): boolean =>
  Math.abs(actualKb - targetKb) <= INACCURACY_KB;
const clip = (low: number, high: number, value: number): number => Math.max(low, Math.min(high, value));
const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

/** Every active domain at the same fraction of its range, so that `wantedFreeKb` would be left. */
export function proportionalTargets(
  host: SqueezedHost,
  wantedFreeKb: number,
  isActive: (domain: SqueezedDomain) => boolean,
): readonly Target[] {
  const active = host.domains.filter(isActive);
  const freeable = active.map((d) => Math.max(0, d.actualKb - d.dynamicMinKb - 2 * INACCURACY_KB));
  const surplus = Math.max(0, host.freeKb + sum(freeable) - wantedFreeKb);
  const gamma = surplus / sum(active.map((d) => d.dynamicMaxKb - d.dynamicMinKb));
  const fraction = Number.isNaN(gamma) ? 0 : clip(0, 1, gamma);
  return active.map(({ domid, dynamicMinKb, dynamicMaxKb }) => ({
    domid,
    kb: dynamicMinKb + Math.trunc(fraction * (dynamicMaxKb - dynamicMinKb)),
  }));
}

/** Memory is released before anyone grows: while some target frees, only those are applied. */
export function firstPhase(host: SqueezedHost, targets: readonly Target[]): readonly Target[] {
  const frees = ({ domid, kb }: Target): boolean => {
    const actual = host.domains.find((d) => d.domid === domid)?.actualKb ?? kb;
    return Math.abs(kb - actual) > INACCURACY_KB && kb < actual;
  };
  const freeing = targets.filter(frees);
  return freeing.length > 0 ? freeing : targets;
}

interface Sighting {
  actualKb: number;
  targetKb: number;
  /** When it was last on target or moved towards it. */
  progressAt: number;
}

/** Which domains move. One per request: every request gives each domain a new chance. */
class ProgressMonitor {
  private readonly seen = new Map<number, Sighting>();

  update(host: SqueezedHost, now: number): void {
    for (const domain of host.domains) {
      const { domid, actualKb, targetKb } = domain;
      const last = this.seen.get(domid);
      const moved =
        !last || last.targetKb !== targetKb || Math.abs(actualKb - targetKb) < Math.abs(last.actualKb - targetKb);
      const progressAt = !last || moved || atTarget(domain) ? now : last.progressAt;
      this.seen.set(domid, { actualKb, targetKb, progressAt });
    }
  }

  isStuck(domain: SqueezedDomain, now: number): boolean {
    const last = this.seen.get(domain.domid);
    return last !== undefined && !atTarget(domain) && now - last.progressAt > STUCK_MS;
  }
}

export interface SqueezeRequest {
  /** What the policy leaves free. */
  readonly wantedFreeKb: number;
  /** Whether so much free memory is success. */
  readonly enough: (freeKb: number) => boolean;
  /** Not a balancing: where so much is free already and everybody is at target, the request ends at once. */
  readonly shortcut: boolean;
}

export type SqueezeEnd =
  | { readonly end: 'done' }
  | { readonly end: 'cannot-free' }
  | { readonly end: 'refused'; readonly domids: readonly number[] };

export interface SqueezeStep {
  /** Limits of every domain, before the constant extras. */
  readonly limits: readonly Target[];
  readonly targets: readonly Target[];
  readonly end: SqueezeEnd | null;
}

const DOM0 = 0;

/** Who has just stopped moving keeps what it has, within its range, so that it cannot take another's memory later. */
function limitOf(d: SqueezedDomain, justStopped: boolean, targets: readonly Target[]): number {
  if (justStopped) return clip(d.dynamicMinKb, d.dynamicMaxKb, Math.min(d.targetKb, d.actualKb));
  return targets.find(({ domid }) => domid === d.domid)?.kb ?? d.targetKb;
}

export class Squeezer {
  private readonly request: SqueezeRequest;
  private readonly monitor = new ProgressMonitor();
  /** Those that were inactive in the round before. */
  private inactive: ReadonlySet<number> = new Set();

  constructor(request: SqueezeRequest) {
    this.request = request;
  }

  /** One round of the loop; the caller applies it and comes back after a second with a new snapshot. */
  step(host: SqueezedHost, now: number): SqueezeStep {
    const { request, monitor } = this;
    if (request.shortcut && host.freeKb >= request.wantedFreeKb && host.domains.every(atTarget)) {
      return { limits: [], targets: [], end: { end: 'done' } };
    }
    monitor.update(host, now);
    const isActive = (domain: SqueezedDomain): boolean => domain.canBalloon && !monitor.isStuck(domain, now);
    const wanted = proportionalTargets(host, request.wantedFreeKb, isActive);
    const targets = firstPhase(host, wanted).filter(({ domid, kb }) => {
      return host.domains.some((d) => d.domid === domid && d.targetKb !== kb);
    });
    const inactive = new Set(host.domains.filter((d) => !isActive(d)).map(({ domid }) => domid));
    const limits = host.domains.map((d) => {
      const justStopped = inactive.has(d.domid) && !this.inactive.has(d.domid);
      return { domid: d.domid, kb: limitOf(d, justStopped, targets) };
    });
    this.inactive = inactive;
    const settled = targets.length === 0 && host.domains.every((d) => !isActive(d) || atTarget(d));
    return { limits, targets, end: settled ? this.verdict(host, isActive) : null };
  }

  private verdict(host: SqueezedHost, isActive: (domain: SqueezedDomain) => boolean): SqueezeEnd {
    if (this.request.enough(host.freeKb)) return { end: 'done' };
    const domids = host.domains.filter((d) => d.canBalloon && !isActive(d)).map(({ domid }) => domid);
    const blamed = domids.some((domid) => domid !== DOM0);
    return blamed ? { end: 'refused', domids } : { end: 'cannot-free' };
  }
}

/** The lasting mark memory/uncooperative: able to balloon, and off target for longer than 20 s. */
export const isUncooperative = (offTargetSince: number, now: number): boolean =>
  now - offTargetSince > UNCOOPERATIVE_MS;
