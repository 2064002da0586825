// The rows of the lending thread's open questions: each is measured when it is asked for, and answered in words from its figures.
import { duration } from '#report/report/markup';
import type { ReportTable } from '#report/verdict';
import { deviceView } from './devices.ts';
import type { Cost, Meter } from './meter.ts';
import { againstHostile, LOOKUP_NS, type Migration, type MigrationSpec, migrate } from './runs.ts';
import { emulation, withoutXen, writeBack } from './single.ts';
import { PAGES, VCPUS } from './stage.ts';
import { allWays, SHOWN } from './ways.ts';

export interface Answered {
  /** For a table: the figures that decide it. */
  readonly short: string;
  /** Whether lending passes by this row; absent: the row does not decide it. */
  readonly passes?: boolean;
  readonly answer: string;
  readonly tables: readonly ReportTable[];
}

export interface Question {
  /** `hostloom bench lending NAME` repeats it. */
  readonly name: string;
  readonly question: string;
  readonly positions: string;
  ask(meter: Meter): Promise<Answered> | Answered;
}

const us = (ns: number): string => duration(ns / 1000);
const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)}%`;
const number = (n: number): string => Math.round(n).toLocaleString('en-US');
const cost = ({ steps, virtualNs }: Cost): string => `${us(virtualNs)} (${number(steps)} steps)`;
/** REVOKES against a hostile borrower. */
const LIVE_REVOKES = 10_000;
const VIRTUAL_REVOKES = 500;

async function removalCost(meter: Meter): Promise<Answered> {
  const user = { role: 'user', ms: 20 } as const;
  const specs: MigrationSpec[] = [
    { order: 0, pages: PAGES, perMove: 1, rate: 1_000, ...user },
    { order: 0, pages: PAGES, perMove: 1, rate: 10_000, ...user },
    { order: 0, pages: PAGES, perMove: 1, rate: 100_000, ...user },
    { order: 0, pages: PAGES, perMove: 64, rate: 100_000, ...user },
    { order: 0, pages: PAGES, perMove: 512, rate: 100_000, ...user },
    { order: 9, pages: PAGES, perMove: 512, rate: 100_000, ...user },
    { order: 9, pages: PAGES, perMove: 512, rate: 1_000_000, ...user },
  ];
  const runs: Migration[] = [];
  for (const spec of specs) runs.push(await migrate(meter, spec));
  const at = (i: number): Migration => runs[i] as Migration; // one for each spec
  const perPage = (m: Migration): number => m.revoke.percentile(50) / m.perMove;
  const best = Math.max(...runs.map((m) => m.accesses));
  const cheap = perPage(at(0)) < at(0).stall.percentile(50);
  return {
    passes: cheap,
    short: `${cheap ? 'no' : 'yes'}: ${us(perPage(at(0)))} a page alone, ${us(perPage(at(4)))} by ranges of 512, ${us(perPage(at(5)))} by 2M; the return costs ${us(at(0).stall.percentile(50))} a fault, ${percent(at(1).stalledShare)} of vCPU time at ${number(at(1).rate)} moves/s, ${percent(at(2).stalledShare)} at ${number(at(2).rate)}`,
    answer: `${cheap ? 'The removal is not what costs' : 'The removal costs more than the way back'}: ${us(perPage(at(0)))} a page one by one, of which most is the CPU flush, ${us(perPage(at(4)))} a page by ranges of 512, ${us(perPage(at(5)))} as a 2M page. No vCPU is paused for it; the flush waits for those in guest mode to leave it. What costs is the way back: a vCPU that touches an absent 4K page stands still for ${us(at(0).stall.percentile(50))}, nearly all of it the lender's look-up (taken as ${us(LOOKUP_NS)}). At ${number(at(1).rate)} pages moved a second one by one the vCPUs stand still ${percent(at(1).stalledShare)} of their time, at ${number(at(2).rate)} ${percent(at(2).stalledShare)}; by 2M pages, at ${number(at(6).rate)} pages a second, ${percent(at(6).stalledShare)}. One thread of the lender that answers fault by fault comes to some ${number(1e9 / at(0).stall.percentile(50))} pages a second, whatever the move; beyond that the guest waits for it. So at 4K fault-by-fault return is too dear for a working set that moves all the time, and lending the whole buffer again in one call after a move is what a driver would do.`,
    tables: [
      {
        caption: `${VCPUS} vCPUs use a buffer of ${PAGES * 4} KiB while the lender moves it; virtual time; look-up ${us(LOOKUP_NS)}`,
        head: [
          'leaf',
          'pages a move',
          'pages moved/s',
          'revoke, p50',
          'a page',
          'stall, p50',
          'p99',
          'longest',
          'faults',
          'time stalled',
          'accesses, of the best',
        ],
        rows: runs.map((m) => [
          m.order === 9 ? '2M' : '4K',
          number(m.perMove),
          number(m.rate),
          us(m.revoke.percentile(50)),
          us(perPage(m)),
          us(m.stall.percentile(50)),
          us(m.stall.percentile(99)),
          us(m.stall.max),
          number(m.faults),
          percent(m.stalledShare),
          percent(m.accesses / best),
        ]),
      },
    ],
  };
}

function iommuView(meter: Meter): Answered {
  const [own, cpus] = [deviceView(meter, 'separate'), deviceView(meter, 'shared')];
  return {
    short: `separate: revoking 64 pages ${us(own.revoke.virtualNs)} against ${us(cpus.revoke.virtualNs)} shared, where the device ${cpus.whileLent} and then ${cpus.afterRevoke}`,
    answer: `With tables of its own the IOMMU never learns of lent pages, and revoking needs no IOTLB invalidation: ${cost(own.revoke)} for 64 pages, against ${cost(cpus.revoke)} with ${cpus.iotlbFlushes} invalidation where the device walks the CPU's tables: one for the range, so the invalidation is dear only for whoever revokes page by page. Sharing has a worse problem than speed: the device ${cpus.whileLent} while the page is lent, and ${cpus.afterRevoke} after it was taken away, which nobody can replay. Giving sharing up costs ${own.ioTables} I/O table pages for this small guest, and each page populated is entered twice: ${cost(own.populate)} for 64 instead of ${cost(cpus.populate)}. By default (\`lend.shared-tables: refuse\`) lending to a domain with shared tables is refused with -EXDEV.`,
    tables: [
      {
        caption: '',
        head: [
          'tables',
          'revoke of 64 pages',
          'IOTLB invalidations',
          'populate 64 pages',
          'I/O table pages',
          'DMA while lent',
          'DMA after revocation',
        ],
        rows: [own, cpus].map((v) => [
          v.tables,
          cost(v.revoke),
          number(v.iotlbFlushes),
          cost(v.populate),
          number(v.ioTables),
          v.whileLent,
          v.afterRevoke,
        ]),
      },
    ],
  };
}

function dma(meter: Meter): Answered {
  const view = deviceView(meter, 'separate');
  return {
    short: `it does not: the transaction ${view.whileLent}, the guest ${view.guestRuns ? 'goes on' : 'is crashed'}`,
    answer: `It does not here: a device of the borrower that is pointed at a lent page ${view.whileLent}, once for each transaction, and Xen prints \`(XEN) ${view.faultLine}\`. The guest ${view.guestRuns ? 'goes on' : 'was crashed'}; only the transfer is lost, as on a BAR without peer-to-peer DMA.`,
    tables: [],
  };
}

function fixedBlob(meter: Meter): Answered {
  const ways = allWays(meter);
  const named = (start: string) => ways.find(({ name }) => name.startsWith(start));
  const [grant, lend, blob] = [named('grant'), named('lend'), named('fixed')];
  return {
    short: `of ${SHOWN} pages wanted back at once: lend ${lend?.freed ?? 0}, grant ${grant?.freed ?? 0}, fixed blob ${blob?.freed ?? 0}`,
    answer: `When the host wants ${SHOWN} pages back while the guest goes on using them, it has ${lend?.freed ?? 0} at once with lend and revoke, ${grant?.freed ?? 0} with grants (${grant?.answer ?? ''}) and ${blob?.freed ?? 0} with a fixed blob, whose guest has to be asked. A blob costs nothing while nothing moves and keeps its superpages; it is the right answer exactly where pinning is. A foreign map can be removed by dom0, page by page, but the guest's next touch then goes to the device model and not to the lender, so the page cannot come back by itself.`,
    tables: [
      {
        caption: `${SHOWN} pages shown to a guest and wanted back; modelled time of the calls`,
        head: [
          'way',
          'to show',
          'to take back',
          'what taking back answered',
          'frames free after the owner gave them up',
          'the guest’s next touch',
        ],
        rows: ways.map((w) => [
          w.name,
          cost(w.show),
          w.takeBack ? cost(w.takeBack) : '–',
          w.answer,
          `${w.freed} of ${w.name.startsWith('memory') ? '–' : SHOWN}`,
          w.nextTouch,
        ]),
      },
    ],
  };
}

async function asyncFaults(meter: Meter): Promise<Answered> {
  const spec = { order: 0, pages: PAGES, perMove: 1, rate: 100_000, ms: 20 } as const;
  const stops = await migrate(meter, { ...spec, role: 'user' });
  const goesOn = await migrate(meter, { ...spec, role: 'asynchronous' });
  return {
    short: `${(goesOn.accesses / stops.accesses).toFixed(2)}× the accesses at ${number(spec.rate)} moves/s, at most`,
    answer: `The same load with vCPUs that go on with other work while a fault is out makes ${(goesOn.accesses / stops.accesses).toFixed(2)}× the accesses (${number(goesOn.accesses)} instead of ${number(stops.accesses)} a second, ${VCPUS} vCPUs); standing still they lose ${percent(stops.stalledShare)} of their time. Upper bound: the guest is taken to have other work always, and switching tasks to cost nothing.`,
    tables: [],
  };
}

async function malicious(meter: Meter): Promise<Answered> {
  const h = await againstHostile(meter, { live: LIVE_REVOKES, virtual: VIRTUAL_REVOKES });
  const row = (name: string, x: typeof h.wall): string[] => [
    name,
    number(x.count),
    us(x.percentile(50)),
    us(x.percentile(99)),
    us(x.max),
  ];
  if (h.allocated !== 0) throw new Error(`a revocation allocated: ${h.allocated}`);
  if (h.refused !== 0) throw new Error(`${h.refused} revocations failed`);
  return {
    passes: h.refused === 0 && h.allocated === 0,
    short: `yes: ${number(h.revokes)} revocations, ${h.refused} errors, ${h.allocated} allocations; p99 ${us(h.virtual.percentile(99))}, worst ${us(h.virtual.max)} (virtual time; alone ${us(h.aloneNs)})`,
    answer: `Yes: of ${number(h.revokes)} revocations against ${VCPUS} vCPUs that fault, map and make hypercalls on the window without a pause (${number(h.calls)} of them) none failed and none allocated anything (${h.allocated} frames or tables; asserted at each). With a CPU for each vCPU the worst took ${us(h.virtual.max)}, alone ${us(h.aloneNs)}. The bound is the revocation's own work, one flush, and one hold of the p2m lock by each vCPU of the borrower that came before it: nothing that a borrower can ask for holds that lock longer than a batch of one page does. By the clock of this machine the worst also has the operating system's scheduling in it.`,
    tables: [
      {
        caption: 'One page a revocation, 4 hostile vCPUs',
        head: ['time', 'revocations', 'p50', 'p99', 'worst'],
        rows: [row('virtual, a CPU each', h.virtual), row('clock of this machine', h.wall)],
      },
    ],
  };
}

function writeProtect(): Answered {
  const [protectedRun, plain] = [writeBack(true), writeBack(false)];
  return {
    short: `yes: ${protectedRun.lost} pages lost with them, ${plain.lost} of 32 without`,
    answer: `Yes. Lent read-only and lent again with the right to write at the first write (${protectedRun.writeFaults} faults for ${protectedRun.writes} writes over 50 write-backs, each of which takes the right away again with \`revoke\` and \`writeProtect\`), the file loses ${protectedRun.lost} of 32 pages. Lent with the right to write from the start, its file system hears of ${plain.writeFaults} writes and loses ${plain.lost}.`,
    tables: [],
  };
}

function emulated(): Answered {
  const found = emulation();
  return {
    short: found.map(({ result }) => result).join('; '),
    answer:
      'Whatever cannot fault finds a hole; whatever can, waits for the lender. A PV guest cannot borrow: it has no tables of Xen’s that a page could vanish from.',
    tables: [{ caption: '', head: ['who', 'gets'], rows: found.map(({ what, result }) => [what, result]) }],
  };
}

function noXen(meter: Meter): Answered {
  const found = withoutXen(meter);
  return {
    short: `a fault ${us(found.fault.virtualNs)}, with Xen between ${us(found.lender.fault.virtualNs)} and the lender’s look-up`,
    answer: `The kernel that owns the memory also owns the second stage: a fault is ${cost(found.fault)}, from the exit to the entry, with the look-up under the same roof; moving a page takes its entry away in ${cost(found.invalidate)}, migration included. Nobody lends and nobody pins. With Xen between them a fault is ${cost(found.lender.fault)} of hypercalls and table work (the lender's look-up of ${us(LOOKUP_NS)} and its event not counted), a revocation ${cost(found.lender.revoke)}. So lending adds hypercalls and one event to what KVM does; it changes nothing of the protocol (see \`map-and-revoke.md\`).`,
    tables: [],
  };
}

export const questions: readonly Question[] = [
  {
    name: 'removal',
    question: 'Is p2m removal too dear?',
    positions: 'too dear for a GPU path / GPU faults and buffer moves are dear anyway',
    ask: removalCost,
  },
  {
    name: 'iommu-view',
    question: 'A separate IOMMU view, or shared tables?',
    positions: 'a separate view rules out sharing / an IOTLB invalidation for each revocation is far too slow',
    ask: iommuView,
  },
  {
    name: 'dma',
    question: 'Must DMA to borrowed memory work?',
    positions: 'BAR-like memory promises none without peer-to-peer',
    ask: dma,
  },
  {
    name: 'fixed-blob',
    question: 'A fixed blob with co-operative hotplug instead?',
    positions: 'simpler, superpages stay / VRAM cannot be pinned',
    ask: fixedBlob,
  },
  {
    name: 'asynchronous',
    question: 'Asynchronous page faults, as in KVM?',
    positions: 'possible later',
    ask: asyncFaults,
  },
  { name: 'malicious', question: 'Does it hold against a malicious borrower?', positions: 'it must', ask: malicious },
  {
    name: 'write-protect',
    question: 'Write-protect faults for write-back (DAX)?',
    positions: 'needed',
    ask: writeProtect,
  },
  {
    name: 'emulation',
    question: 'What of emulated instructions, and of PV guests?',
    positions: 'allowed if they can fault; PV not supported',
    ask: emulated,
  },
  { name: 'without-xen', question: 'How does it work without Xen?', positions: '–', ask: noXen },
];
