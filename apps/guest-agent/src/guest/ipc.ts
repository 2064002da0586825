// What a supervisor and its guest process say to each other over the channel between them. Both are of one build; the guest's
// hostile side is its domain's queues, not this.
import type { GuestCommand, GuestEventName, GuestEvents, GuestSpec } from '#model/guest/guest-spec';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import type { UserCredentials } from '#wire/acl';
import type { RedisEndpoint } from '#wire/connection';

/** Everything a guest process needs; no more of the host than that. */
export interface GuestPlacement {
  readonly endpoint: RedisEndpoint;
  readonly hostId: string;
  readonly epoch: string;
  readonly incarnation: number;
  readonly credentials: UserCredentials;
  readonly spec: GuestSpec;
  /** Faults for its vCPUs. */
  readonly faults: FaultPlan;
}

export type ToGuest =
  | { readonly do: 'boot'; readonly placement: GuestPlacement }
  | { readonly do: 'command'; readonly command: GuestCommand };

export interface TimedEvent<N extends GuestEventName = GuestEventName> {
  readonly tsUs: number;
  readonly name: N;
  readonly data: GuestEvents[N];
}

export type FromGuest =
  /** Its queues are reached; its kernel starts to run. */
  | { readonly say: 'attached' }
  | { readonly say: 'events'; readonly events: readonly TimedEvent[] }
  /** The last word before it ends. `expected`: its domain shut down. */
  | { readonly say: 'ending'; readonly why: string; readonly expected: boolean };

/** Exit statuses of a guest process beside 0 (its domain shut down) and EXIT_HOST_GONE. */
export const EXIT_KERNEL_BROKEN = 70;
export const EXIT_ORPHAN = 71;
