// A guest process: one domain's kernel with the rights of that domain and nothing else. Its main thread does the queueing for
// the vCPU threads, follows memory/target, beats, and ends the process, saying why, when the hypervisor, the supervisor or the
// kernel itself is gone. It decides nothing that a guest decides.
import type { Redis } from 'ioredis';
import type { GuestSpec } from '#model/guest/guest-spec';
import { connectGuest } from '#wire/acl';
import { EXIT_HOST_GONE } from '#wire/environment';
import { watchEpoch } from '#wire/epoch';
import { startHeartbeat } from '#wire/heartbeat';
import { HypercallClient } from '#wire/hypercall-client';
import { ReplyReader } from '#wire/reply-reader';
import { sendForSure } from '#wire/sync-port';
import { DomainXenstore } from '#wire/xenstore';
import {
  EXIT_KERNEL_BROKEN,
  EXIT_ORPHAN,
  type FromGuest,
  type GuestPlacement,
  type TimedEvent,
  type ToGuest,
} from './ipc.ts';
import { Vcpus } from './vcpus.ts';

const CALL_TIMEOUT_MS = 5000;
const HEARTBEAT_MS = 500;
const EVENTS_MS = 20;
/** A private Redis server that is silent so long is gone with its host. */
const UNREACHABLE_MS = 10_000;
/** Sequence numbers go on above those of an earlier process of the same incarnation. */
const firstSeq = (): number => Date.now() * 1000;

let ending = false;
let events: TimedEvent[] = [];

const tell = (message: FromGuest): void => {
  if (process.connected) process.send?.(message);
};

function flushEvents(): void {
  if (events.length > 0) tell({ say: 'events', events });
  events = [];
}

function report(event: TimedEvent): void {
  if (events.length === 0) setTimeout(flushEvents, EVENTS_MS);
  events.push(event);
}

/** Says why, and exits once it is said. */
function end(status: number, why: string, expected: boolean): void {
  if (ending) return;
  ending = true;
  if (!expected) process.stderr.write(`guest: ${why}\n`);
  flushEvents();
  const last: FromGuest = { say: 'ending', why, expected };
  if (!process.connected) process.exit(status);
  process.send?.(last, () => process.exit(status));
  setTimeout(() => process.exit(status), 500);
}

/** What the driver says of itself in xenstore once it runs, and the target it is given there. */
async function followTarget(xenstore: DomainXenstore, vcpus: Vcpus): Promise<void> {
  const read = async (): Promise<void> => {
    const target = Number(await xenstore.read('memory/target'));
    if (Number.isSafeInteger(target) && target > 0) vcpus.command({ do: 'target', kib: target });
  };
  await xenstore.watch('memory/target', () => void read().catch(() => {}));
}

function startKernel(placement: GuestPlacement, clients: readonly HypercallClient[], xenstore: DomainXenstore): Vcpus {
  const { spec, faults } = placement;
  return new Vcpus({
    spec,
    faults,
    send: (vcpu, calls) => {
      const client = clients[vcpu];
      if (!client) throw new RangeError(`d${spec.domid} has no vCPU ${vcpu}`);
      return sendForSure(client, calls, () => ending);
    },
    onEvent: (event) => {
      report(event);
      if (event.name === 'balloonReady') xenstore.write('control/feature-balloon', '1').catch(() => {});
    },
    onDead: () => end(0, 'its kernel runs no more', true),
    onCutOff: (_, text) => end(EXIT_HOST_GONE, `no more calls of domain ${spec.domid} are answered: ${text}`, false),
    onError: (error) => end(EXIT_KERNEL_BROKEN, error.stack ?? error.message, false),
  });
}

async function boot(placement: GuestPlacement): Promise<Vcpus> {
  const { endpoint, hostId, epoch, credentials, spec } = placement;
  const { domid } = spec;
  const redis = await connectGuest(endpoint, credentials);
  watchEpoch({
    redis,
    hostId,
    epoch,
    unreachableMs: UNREACHABLE_MS,
    onGone: (why) => end(EXIT_HOST_GONE, `guest ${spec.name} (domain ${domid}) ends: ${why}`, false),
  });
  const clients = await openVcpus(redis, placement, spec);
  startHeartbeat({ redis, hostId, domid, everyMs: HEARTBEAT_MS });
  const xenstore = new DomainXenstore({ redis, hostId, domid, writer: 'guest' });
  tell({ say: 'attached' });
  const vcpus = startKernel(placement, clients, xenstore);
  if (spec.balloon.enabled) await followTarget(xenstore, vcpus);
  return vcpus;
}

async function openVcpus(redis: Redis, placement: GuestPlacement, spec: GuestSpec): Promise<HypercallClient[]> {
  const { hostId, epoch, incarnation } = placement;
  const replies = new ReplyReader(redis, hostId, spec.domid);
  const common = { connection: redis, hostId, domid: spec.domid, epoch, incarnation, timeoutMs: CALL_TIMEOUT_MS };
  const clients = Array.from(
    { length: spec.vcpus },
    (_, vcpu) => new HypercallClient({ ...common, vcpu, replies, firstSeq: firstSeq() }),
  );
  await Promise.all(clients.map((client) => client.ready()));
  return clients;
}

let vcpus: Promise<Vcpus> | undefined;
process.on('message', (message: ToGuest) => {
  if (message.do === 'boot') {
    vcpus = boot(message.placement);
    vcpus.catch((error: Error) => end(EXIT_KERNEL_BROKEN, error.stack ?? error.message, false));
  } else {
    void vcpus?.then(
      (running) => running.command(message.command),
      () => {}, // it is ending
    );
  }
});
// Without its supervisor nobody could command or end this guest.
process.on('disconnect', () => end(EXIT_ORPHAN, 'its supervisor is gone', false));
// Ctrl-C reaches the whole process group: the supervisor decides.
process.on('SIGINT', () => {});
