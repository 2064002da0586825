// What a hypercall costs beside a bare BullMQ job, on the same queues, in one run (DESIGN 10, rows 3 and 4). The hypervisor is the
// built process; the yardstick is a no-op worker in one thread of this one, its completions noticed through QueueEvents. Rounds
// alternate, each round gives one ratio. Prints one row a line (row.ts).
import { isMainThread, parentPort, Worker as Thread, workerData } from 'node:worker_threads';
import { Queue, QueueEvents, Worker } from 'bullmq';
import { defaultPolicies, type HostConfig, tablePagesFor } from '#model/host-config';
import type { Call } from '#model/hypercall/calls';
import { connect, type RedisEndpoint } from '#wire/connection';
import type { HypercallClient } from '#wire/hypercall-client';
import { smallConfig } from '../libs/model/test-support/p2m-fixture.ts';
import { type Guest, HypervisorProcess } from '../test/support/hypervisor-process.ts';
import { median, printRow, spreadOf } from './row.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const ROUND_MS = Number(process.env.BENCH_ROUND_MS ?? 1500);
const CALL_VCPUS = 16;
const PAGE_VCPUS = 8;
const RANGES = 1024;
const FRAMES = 0x100000;
const removal = { removeOnComplete: { count: 64 }, removeOnFail: { count: 64 } };

type Lane = (lane: number) => Promise<unknown>;

const config = (iommuEnabled: boolean): HostConfig => ({
  ...smallConfig({
    pcpus: 4,
    frames: FRAMES,
    heapRanges: [{ start: 0x100, end: FRAMES }],
    memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 }],
    tablePages: tablePagesFor(FRAMES),
    iommuEnabled,
    policies: { ...defaultPolicies, iommuTables: 'separate' },
  }),
  ...(iommuEnabled ? {} : { units: [], devices: [] }),
});

/** The serving side of the yardstick, in a thread of its own. */
async function serveNoOps({ endpoint, queues }: { endpoint: RedisEndpoint; queues: number }): Promise<void> {
  const options = { connection: connect(endpoint), prefix: '{bench}', concurrency: 1, ...removal };
  const workers = Array.from({ length: queues }, (_, i) => new Worker(`plain${i}`, async () => 0, options));
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  parentPort?.postMessage('ready');
}

async function askJob(queue: Queue, jobId: string, done: () => void): Promise<void> {
  if ((await queue.getJob(jobId))?.finishedOn !== undefined) done();
}

interface NoOps {
  readonly lane: Lane;
  close(): Promise<void>;
}

async function openNoOps(endpoint: RedisEndpoint, count: number): Promise<NoOps> {
  const thread = new Thread(new URL(import.meta.url), { workerData: { endpoint, queues: count } });
  await new Promise((resolve) => thread.once('message', resolve));
  const connection = connect(endpoint);
  const names = Array.from({ length: count }, (_, i) => `plain${i}`);
  const queues = names.map((name) => new Queue(name, { connection, prefix: '{bench}' }));
  const events = names.map((name) => new QueueEvents(name, { connection, prefix: '{bench}' }));
  const pending = new Map<string, () => void>();
  for (const source of events) {
    source.on('completed', ({ jobId }) => {
      pending.get(jobId)?.();
      pending.delete(jobId);
    });
  }
  await Promise.all([...queues, ...events].map((thing) => thing.waitUntilReady()));
  let sequence = 0;
  return {
    lane: async (lane) => {
      const jobId = `p${process.hrtime.bigint()}-${sequence++}`;
      const settled = new Promise<void>((resolve) => pending.set(jobId, resolve));
      const queue = queues[lane] as Queue; // one per lane
      await queue.add('call', { n: 1 }, { jobId, ...removal });
      // An event that never comes (seen in fresh processes) must not hang the run: then the job itself is asked.
      const poll = setInterval(() => void askJob(queue, jobId, () => pending.get(jobId)?.()), 2000);
      await settled;
      clearInterval(poll);
    },
    close: async () => {
      await Promise.all([...events, ...queues].map((thing) => thing.close()));
      connection.disconnect();
      await thread.terminate();
    },
  };
}

/** Jobs per second over `lanes` queues with one outstanding each. */
async function perSecond(lane: Lane, lanes: number, ms: number): Promise<number> {
  const start = performance.now();
  let jobs = 0;
  const run = async (index: number): Promise<void> => {
    while (performance.now() - start < ms) {
      await lane(index);
      jobs++;
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, index) => run(index)));
  return (jobs * 1000) / (performance.now() - start);
}

/** Jobs per second of each subject, round by round; the subjects take turns. */
async function compare(lanes: number, subjects: readonly Lane[]): Promise<number[][]> {
  const found = subjects.map((): number[] => []);
  for (const subject of subjects) await perSecond(subject, lanes, ROUND_MS / 3);
  for (let i = 0; i < ROUNDS; i++) {
    for (const [index, subject] of subjects.entries()) found[index]?.push(await perSecond(subject, lanes, ROUND_MS));
  }
  return found;
}

/** A guest with `vcpus` vCPUs and `pages` of RAM at gfn 0, mapped by 4K where `order` is 0. */
async function createGuest(
  hypervisor: HypervisorProcess,
  vcpus: number,
  pages: number,
  iommu: boolean,
): Promise<Guest> {
  const dom0 = await hypervisor.guest(0);
  const client = dom0.clients[0] as HypercallClient; // dom0 has vCPUs
  const flags = { hvm: true, hap: true, iommu, noSharept: false, deviceModel: true };
  const [created] = await client.send([{ op: 'createdomain', domid: 0, name: 'bench', vcpus, ...flags }]);
  const domid = (created as { domid?: number }).domid ?? -1;
  const built = await client.send([
    { op: 'max_mem', domid, maxKb: pages * 4 },
    { op: 'set_paging_mempool_size', domid, bytes: 64 * 2 ** 20 },
    { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: 0, count: pages } },
    { op: 'unpausedomain', domid },
  ]);
  if (built[2]?.rc !== pages || built[3]?.rc !== 0)
    throw new Error(`the guest was not built: ${JSON.stringify(built)}`);
  await dom0.close();
  return hypervisor.guest(domid);
}

const send =
  (guest: Guest, calls: (vcpu: number) => readonly Call[]): Lane =>
  async (vcpu) => {
    const answers = await (guest.clients[vcpu] as HypercallClient).send(calls(vcpu));
    const failed = answers.find(({ rc }) => rc < 0);
    if (failed) throw new Error(`a call of the benchmark failed: ${failed.rc}`);
  };

/** Row 3. */
async function hypercalls(): Promise<void> {
  const hypervisor = await HypervisorProcess.start({ config: config(true), dom0: { memoryMb: 256, vcpus: 2 } });
  const guest = await createGuest(hypervisor, CALL_VCPUS, 4096, false);
  const noOps = await openNoOps(hypervisor.server.endpoint, CALL_VCPUS);
  const touch = send(guest, (vcpu) => [{ op: 'touch', frames: { start: vcpu * 16, count: 1 } }]);
  const [plain = [], calls = []] = await compare(CALL_VCPUS, [noOps.lane, touch]);
  await noOps.close();
  await hypervisor.stop();
  const ratios = calls.map((rate, round) => rate / (plain[round] ?? Number.NaN));
  printRow({
    row: 3,
    name: 'completed hypercalls/s, 16 vCPU queues with one call outstanding each, to no-op jobs/s',
    value: median(ratios),
    unit: 'ratio',
    hold: 0.85,
    bound: 'at least',
    runs: ROUNDS,
    spread: spreadOf(ratios),
    detail: { hypercallsPerSecond: Math.round(median(calls)), noOpJobsPerSecond: Math.round(median(plain)) },
  });
}

interface PageOp {
  readonly name: string;
  /** Extents as ranges is what the bound is about (DESIGN 3); the others are reported beside it. */
  readonly held: boolean;
  readonly pagesPerJob: number;
  readonly calls: (vcpu: number) => readonly Call[];
}

const PAGES_EACH = 2048;
const base = (vcpu: number): number => vcpu * PAGES_EACH;
const spread = <T>(make: (i: number) => T): T[] => Array.from({ length: RANGES }, (_, i) => make(i));

const pageOps: readonly PageOp[] = [
  {
    name: 'touch, 1024 ranges of 1 page in one call each',
    held: false,
    pagesPerJob: RANGES,
    calls: (vcpu) => spread((i) => ({ op: 'touch', frames: { start: base(vcpu) + i, count: 1 } })),
  },
  {
    name: 'touch, one range of 1024 pages',
    held: true,
    pagesPerJob: RANGES,
    calls: (vcpu) => [{ op: 'touch', frames: { start: base(vcpu), count: RANGES } }],
  },
  {
    name: 'touch, 1024 ranges of 8 pages in one call each',
    held: true,
    pagesPerJob: RANGES * 8,
    calls: (vcpu) => spread((i) => ({ op: 'touch', frames: { start: base(vcpu) + (i % 128) * 8, count: 8 } })),
  },
  {
    name: 'balloon out and in, 512 + 512 pages in two calls',
    held: false,
    pagesPerJob: RANGES,
    calls: (vcpu) => [
      { op: 'decrease_reservation', domid: 0x7ff0, order: 0, extents: { start: base(vcpu), count: RANGES / 2 } },
      {
        op: 'populate_physmap',
        domid: 0x7ff0,
        order: 0,
        memFlags: 0,
        extents: { start: base(vcpu), count: RANGES / 2 },
      },
    ],
  },
];

/** Row 4. */
async function pageOperations(iommu: boolean): Promise<void> {
  const hypervisor = await HypervisorProcess.start({ config: config(iommu), dom0: { memoryMb: 256, vcpus: 2 } });
  const guest = await createGuest(hypervisor, PAGE_VCPUS, PAGE_VCPUS * PAGES_EACH, iommu);
  const noOps = await openNoOps(hypervisor.server.endpoint, PAGE_VCPUS);
  const subjects = pageOps.map(({ calls }) => {
    const prepared = Array.from({ length: PAGE_VCPUS }, (_, vcpu) => calls(vcpu));
    return send(guest, (vcpu) => prepared[vcpu] as readonly Call[]); // one per vCPU
  });
  const [plain = [], ...rates] = await compare(PAGE_VCPUS, [noOps.lane, ...subjects]);
  await noOps.close();
  await hypervisor.stop();
  for (const [index, op] of pageOps.entries()) {
    const own = rates[index] ?? [];
    // cost of a page / (cost of a no-op job / 1024)
    const ratios = own.map((rate, round) => ((plain[round] ?? Number.NaN) * RANGES) / (rate * op.pagesPerJob));
    const held = op.held && !iommu;
    printRow({
      row: 4,
      name: `page operation (${op.name}), 8 vCPUs, IOMMU ${iommu ? 'on' : 'off'}`,
      value: median(ratios),
      unit: 'ratio',
      hold: held ? 2 : null,
      bound: held ? 'at most' : 'reported',
      runs: ROUNDS,
      spread: spreadOf(ratios),
      detail: {
        pageNs: Math.round(1e9 / (median(own) * op.pagesPerJob)),
        yardstickNs: Math.round(1e9 / median(plain) / RANGES),
      },
    });
  }
}

if (isMainThread) {
  await hypercalls();
  await pageOperations(false);
  await pageOperations(true);
  process.exit(0);
} else await serveNoOps(workerData);
