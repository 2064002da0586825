import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, AnswerOf, Call, CallOf, OpName } from '#model/hypercall/calls';
import { readEpoch, watchEpoch } from '#wire/epoch';
import type { HypercallClient } from '#wire/hypercall-client';
import { connect } from '#wire/redis-server';
import { DomainXenstore } from '#wire/xenstore';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { type Guest, HypervisorProcess } from '../support/hypervisor-process.ts';

const config = smallConfig({ pcpus: 2, frames: 0x20000, heapRanges: [{ start: 0x100, end: 0x20000 }] });
const withRam = { ...config, memoryMap: [{ addr: 0, size: 0x20000 * 4096, type: 1 as const }], tablePages: 20_000 };

const at = <T>(list: readonly T[], index: number): T => list[index] as T; // the test knows the length

async function ask<N extends OpName>(client: HypercallClient, call: CallOf<N>): Promise<AnswerOf<N>> {
  const [answer] = await client.send([call as Call]);
  return answer as AnswerOf<N>; // one call, one answer of its kind
}

const rcs = (answers: readonly Answer[]): number[] => answers.map(({ rc }) => rc);

/** A small HVM domain, unpaused, with `pages` at gfn 0. */
async function createGuest(client: HypercallClient, pages: number): Promise<number> {
  const { rc, domid = -1 } = await ask<'createdomain'>(client, {
    op: 'createdomain',
    domid: 0,
    name: 'guest',
    hvm: true,
    hap: true,
    iommu: false,
    noSharept: false,
    vcpus: 2,
    deviceModel: true,
  });
  expect(rc).toBe(0);
  const answers = await client.send([
    { op: 'max_mem', domid, maxKb: pages * 4 },
    { op: 'set_paging_mempool_size', domid, bytes: 4 * 2 ** 20 },
    { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: 0, count: pages } },
    { op: 'unpausedomain', domid },
  ]);
  expect(rcs(answers)).toEqual([0, 0, pages, 0]);
  return domid;
}

describe('the hypervisor process', () => {
  let hypervisor: HypervisorProcess;
  let dom0: Guest;
  let client: HypercallClient;

  beforeAll(async () => {
    hypervisor = await HypervisorProcess.start({ config: withRam, dom0: { memoryMb: 128, vcpus: 2 }, record: true });
    dom0 = await hypervisor.guest(0);
    client = at(dom0.clients, 0);
  });
  afterAll(() => hypervisor?.stop());

  it('answers dom0 physinfo with the host as it was booted', async () => {
    const { rc, info } = await ask<'physinfo'>(client, { op: 'physinfo' });
    expect(rc).toBe(0);
    expect(info).toMatchObject({ totalPages: 0x20000 - 0x100, pcpus: 2, hap: true, iommu: true });
  });

  it('runs the calls of a multicall in order, one answer each', async () => {
    const answers = await client.send([
      { op: 'decrease_reservation', domid: 0, order: 0, extents: { start: 0x1000, count: 64 } },
      { op: 'get_pod_target', domid: 0x7ff0 },
      { op: 'populate_physmap', domid: 0, order: 0, memFlags: 0, extents: { start: 0x1000, count: 64 } },
      { op: 'store', frames: { start: 0x1000, count: 4 }, tag: 7 },
      { op: 'verify', frames: { start: 0x1000, count: 4 }, tag: 7 },
    ]);
    expect(at(answers, 0).rc).toBe(64);
    expect(at(answers, 2).rc).toBe(64);
    expect(at(answers, 4)).toMatchObject({ rc: 0, bad: 0 });
  });

  it('opens the queues of a new domain before its creator hears of it, and its guest has its own rights', async () => {
    const domid = await createGuest(client, 256);
    const guest = await hypervisor.guest(domid);
    const answer = await ask<'touch'>(at(guest.clients, 1), { op: 'touch', frames: { start: 0, count: 256 } });
    expect(answer).toMatchObject({ rc: 0, done: 256 });
    const other = await ask<'pausedomain'>(at(guest.clients, 0), { op: 'pausedomain', domid: 0 });
    expect(other.rc).toBeLessThan(0);
    await guest.close();
    expect((await ask<'destroydomain'>(client, { op: 'destroydomain', domid })).rc).toBe(0);
    expect(await hypervisor.ask({ op: 'grant', domid })).toMatchObject({ op: 'refused' });
  });

  it("holds a paused domain's call until it is unpaused", async () => {
    const domid = await createGuest(client, 16);
    const guest = await hypervisor.guest(domid);
    expect((await ask<'pausedomain'>(client, { op: 'pausedomain', domid })).rc).toBe(0);
    let answered = false;
    const touched = ask<'touch'>(at(guest.clients, 0), { op: 'touch', frames: { start: 0, count: 1 } });
    void touched.then(() => {
      answered = true;
    });
    // A call of dom0 that went in later is answered; the guest's is not.
    for (let i = 0; i < 20; i++) await ask<'physinfo'>(client, { op: 'physinfo' });
    expect(answered).toBe(false);
    expect((await ask<'unpausedomain'>(client, { op: 'unpausedomain', domid })).rc).toBe(0);
    expect((await touched).rc).toBe(0);
    await guest.close();
    await ask<'destroydomain'>(client, { op: 'destroydomain', domid });
  });

  it("tells a vCPU that waits when its domain is destroyed, and fires xenstore's @releaseDomain", async () => {
    const domid = await createGuest(client, 16);
    const guest = await hypervisor.guest(domid);
    expect((await ask<'pausedomain'>(client, { op: 'pausedomain', domid })).rc).toBe(0);
    const waiting = at(guest.clients, 0).send([{ op: 'touch', frames: { start: 0, count: 1 } }]);
    const told = expect(waiting).rejects.toMatchObject({ name: 'TransportError', code: 'HANDLER_FAILED' });
    const redis = connect(hypervisor.server.endpoint);
    const xenstore = new DomainXenstore({ redis, hostId: hypervisor.hostId, domid: 0, writer: 'toolstack' });
    const before = await xenstore.read('@releaseDomain');
    const released = new Promise<void>((resolve) => {
      void xenstore.watch('@releaseDomain', () => {
        void xenstore.read('@releaseDomain').then((now) => {
          if (now !== before) resolve();
        });
      });
    });
    await ask<'destroydomain'>(client, { op: 'destroydomain', domid });
    await told;
    await released;
    xenstore.close();
    redis.disconnect();
    await guest.close();
  });

  it('answers a malformed call in its place, runs its neighbours, and counts it', async () => {
    const negative = { op: 'touch', frames: { start: -1, count: 1 } } as const;
    const answers = await client.send([{ op: 'physinfo' }, negative, { op: 'physinfo' }]);
    expect(rcs(answers)).toEqual([0, -22, 0]);
    const reply = await hypervisor.ask({ op: 'counters' });
    expect(reply).toMatchObject({ op: 'counters', wire: { malformed: 1 } });
  });

  it('refuses calls of an older epoch, with no effect', async () => {
    const stale = await hypervisor.guest(0, 'deadbeef');
    const sent = at(stale.clients, 1).send([{ op: 'physinfo' }]);
    await expect(sent).rejects.toMatchObject({ name: 'TransportError', code: 'STALE_EPOCH' });
    await stale.close();
  });

  it('runs a DMA job of dom0 to its end and wakes the vCPU that waits for it', async () => {
    const [submitted] = await client.send([
      {
        op: 'device_submit',
        sbdf: 0x10,
        commands: [{ kind: 'write', frames: { start: 0x2000, count: 512 }, tag: 9, repeat: 200 }],
      },
    ]);
    const { rc, job = 0 } = submitted as AnswerOf<'device_submit'>;
    expect(rc).toBe(0);
    const outcome = await ask<'device_wait'>(client, { op: 'device_wait', sbdf: 0x10, job });
    expect(outcome).toMatchObject({ rc: 0, completed: 512 * 200, faults: 0 });
  });

  it('stops everything at a safepoint and finds every invariant true', async () => {
    const busy = Promise.all(
      dom0.clients.map((each) => each.send([{ op: 'touch', frames: { start: 0x2000, count: 4096 } }])),
    );
    const reply = await hypervisor.ask({ op: 'check-invariants' });
    expect(reply).toMatchObject({ op: 'check-invariants', violations: [] });
    await busy;
  });

  it('shows what p2m and IOMMU hold for a gfn', async () => {
    const reply = await hypervisor.ask({ op: 'peek', domid: 0, gfn: 0x2345 });
    expect(reply).toMatchObject({ op: 'peek', peek: { p2mType: 'ramRw', iommu: 'mapped' } });
  });

  it('keeps the console in the run directory and answers readconsole', async () => {
    const { text = '' } = await ask<'readconsole'>(client, { op: 'readconsole', from: 0 });
    expect(text).toContain('(XEN) Initial low memory virq threshold set at 0x4000 pages.');
    expect(hypervisor.file('xl-dmesg.txt')).toContain('(XEN) Dom0 has maximum 2 VCPUs');
    expect(hypervisor.file('history.ndjson')).toContain('"op":"physinfo"');
  });

  it('ends with status 0 in less than a second when it is told to, and withdraws its epoch', async () => {
    const redis = connect(hypervisor.server.endpoint);
    expect(await readEpoch(redis, hypervisor.hostId)).not.toBeNull();
    hypervisor.child.kill('SIGTERM');
    const start = performance.now();
    expect(await hypervisor.exited).toBe(0);
    expect(performance.now() - start).toBeLessThan(1000);
    expect(await readEpoch(redis, hypervisor.hostId)).toBeNull();
    redis.disconnect();
  });
});

/** An RMRR of dom0's device in reserved memory: populating there is what Xen crashes a domain for. */
const withRmrr = {
  ...withRam,
  heapRanges: [
    { start: 0x100, end: 0x8000 },
    { start: 0x8010, end: 0x20000 },
  ],
  memoryMap: [
    { addr: 0, size: 0x8000000, type: 1 as const },
    { addr: 0x8000000, size: 0x10000, type: 2 as const },
    { addr: 0x8010000, size: 0x20000000 - 0x8010000, type: 1 as const },
  ],
  rmrrs: [{ startPfn: 0x8000, endPfn: 0x800f, devices: config.devices.map(({ sbdf }) => sbdf) }],
};

describe('a host with a fault plan', () => {
  it('fails the planned step of a pCPU, and only that one', async () => {
    const hypervisor = await HypervisorProcess.start({
      config: { ...withRam, pcpus: 1 },
      faultPlan: [{ at: { kind: 'frameAlloc', nth: 3 }, do: { errno: 12 } }],
    });
    const { clients, close } = await hypervisor.guest(0);
    const populate: Call = {
      op: 'populate_physmap',
      domid: 0,
      order: 0,
      memFlags: 0,
      extents: { start: 0x10000, count: 8 },
    };
    expect(rcs(await at(clients, 0).send([populate, populate]))).toEqual([2, 8]);
    await close();
    await hypervisor.stop();
  });
});

describe('a host whose hypervisor is killed', () => {
  it('is known to be gone when its epoch expires', async () => {
    const hypervisor = await HypervisorProcess.start({ config: withRam });
    const redis = connect(hypervisor.server.endpoint);
    const epoch = (await readEpoch(redis, hypervisor.hostId)) ?? '';
    const gone = new Promise<string>((resolve) => {
      watchEpoch({ redis, hostId: hypervisor.hostId, epoch, onGone: resolve });
    });
    hypervisor.child.kill('SIGKILL');
    expect(await gone).toContain('expired');
    redis.disconnect();
    await hypervisor.stop();
  });
});

describe('a host that panics', () => {
  it('says so as Xen does, withdraws its epoch and exits 70', async () => {
    const hypervisor = await HypervisorProcess.start({ config: withRmrr });
    const { clients, close } = await hypervisor.guest(0);
    const over = at(clients, 0).send([
      { op: 'populate_physmap', domid: 0, order: 0, memFlags: 0, extents: { start: 0x8001, count: 1 } },
    ]);
    over.catch(() => {}); // nobody answers any more
    const status = await hypervisor.exited;
    await close();
    const redis = connect(hypervisor.server.endpoint);
    const epoch = await readEpoch(redis, hypervisor.hostId);
    redis.disconnect();
    const panic = hypervisor.file('panic.txt');
    await hypervisor.stop();
    expect(status).toBe(70);
    expect(panic).toContain('Panic on CPU');
    expect(panic).toContain('Hardware Dom0 crashed');
    expect(epoch).toBeNull();
  });
});
