// Every name this host uses in Redis: queues, keys, channels, users. One place for each, so that an ACL pattern and the key
// it admits cannot drift apart. It knows nothing of what is stored under a name.
//
// All keys of a host begin with `{hostId}:`: they share a slot of a Redis Cluster, and hosts do not collide. A domain's vCPU
// queues are `{host}:d1v0:…`, everything else of it is `{host}:d1:…`; both patterns end in a separator, so d1 is not d10.

import { strict as assert } from 'node:assert';

const HOST_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const EPOCH = /^[A-Za-z0-9]{1,64}$/;

/** Characters that mean something in a key pattern cannot be part of a host id. */
export const isHostId = (text: string): boolean => HOST_ID.test(text);
export const isEpoch = (text: string): boolean => EPOCH.test(text);

/** BullMQ's `prefix` option for every queue of the host. */
export function hostPrefix(hostId: string): string {
  assert(isHostId(hostId), `host id ${JSON.stringify(hostId)} is not letters, digits, '.', '_' or '-' (at most 63)`);
  return `{${hostId}}`;
}

export const bootQueue = 'boot';
export const xlQueue = 'xl';
export const hvQueue = 'hv';
/** Commands to the supervisor of one guest; no guest can reach it. */
export const guestQueue = (domid: number): string => `guest-d${domid}`;
export const vcpuQueue = (domid: number, vcpu: number): string => `d${domid}v${vcpu}`;

/** dom0's last vCPU is the toolstack's, the others are its kernel's: two processes cannot share one vCPU's numbering. */
export const toolstackVcpu = (dom0Vcpus: number): number => dom0Vcpus - 1;

/** A hypercall job's id: chosen by the client, not an integer, without `:` (BullMQ reserves both). */
export const callJobId = (epoch: string, incarnation: number, seq: number): string =>
  `e${epoch}-i${incarnation}-s${seq}`;

/** The hash in which BullMQ keeps one job. */
export const jobKey = (hostId: string, queue: string, jobId: string): string =>
  `${hostPrefix(hostId)}:${queue}:${jobId}`;

const domainKey = (hostId: string, domid: number, what: string): string => `${hostPrefix(hostId)}:d${domid}:${what}`;

/** Pub/sub channel on which a domain's replies arrive, whichever vCPU asked. */
export const replyChannel = (hostId: string, domid: number): string => domainKey(hostId, domid, 'reply');
export const heartbeatKey = (hostId: string, domid: number): string => domainKey(hostId, domid, 'heartbeat');

/** Who wrote a xenstore node decides in which hash it stands. */
export type XenstoreWriter = 'toolstack' | 'guest';
export const xenstoreKey = (hostId: string, domid: number, writer: XenstoreWriter): string =>
  domainKey(hostId, domid, `xs-${writer}`);
export const xenstoreWatchKey = (hostId: string, domid: number, writer: XenstoreWriter): string =>
  domainKey(hostId, domid, `xs-${writer}-watch`);

export const epochKey = (hostId: string): string => `${hostPrefix(hostId)}:epoch`;

/** Which processes the launcher started, by name. */
export const processesKey = (hostId: string): string => `${hostPrefix(hostId)}:processes`;
/** What the dashboard keeps for browsers that come back. */
export const dashboardKey = (hostId: string, what: string): string => `${hostPrefix(hostId)}:dashboard:${what}`;

export const streamNames = ['trace', 'faults', 'history', 'console', 'guest', 'live'] as const;
export type StreamName = (typeof streamNames)[number];
export const streamKey = (hostId: string, name: StreamName): string => `${hostPrefix(hostId)}:stream:${name}`;

/** Key patterns for `ACL SETUSER` and `SCAN`: all queues of a domain's vCPUs, and all its other keys. */
export const vcpuKeyPattern = (hostId: string, domid: number): string => `${hostPrefix(hostId)}:d${domid}v*`;
export const domainKeyPattern = (hostId: string, domid: number): string => domainKey(hostId, domid, '*');
export const guestQueueKeys = (hostId: string, domid: number): string => `${hostPrefix(hostId)}:${guestQueue(domid)}:*`;
export const hostKeyPattern = (hostId: string): string => `${hostPrefix(hostId)}:*`;

/** `guest`: the domain's own credentials. `worker`: what the hypervisor uses to serve that domain's queues. */
export type DomainRole = 'guest' | 'worker';
export const aclUser = (hostId: string, domid: number, incarnation: number, role: DomainRole): string =>
  `${hostPrefix(hostId)}-d${domid}-i${incarnation}-${role}`;
