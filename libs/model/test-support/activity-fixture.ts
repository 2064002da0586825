// dom0's kernel and a guest's on a real host in one thread, both with activities: their vCPUs run in turn, a slice at a time.

import { type ActivityOrder, type SharingPolicies, todaysSharing } from '#model/guest/activity/spec';
import { bootGuest } from '#model/guest/boot';
import { GuestKernel } from '#model/guest/guest-kernel';
import {
  type ActivityWorkloadSpec,
  defaultBalloon,
  type GuestEventName,
  type GuestEvents,
  type GuestSink,
  type GuestSpec,
} from '#model/guest/guest-spec';
import { RealHost } from './real-host.ts';

const FRAMES = 512 * 200;
const MB = 2 ** 20;
const GUEST_MB = 32;

class Recorder implements GuestSink {
  readonly all: { name: GuestEventName; data: GuestEvents[GuestEventName] }[] = [];
  event<N extends GuestEventName>(name: N, data: GuestEvents[N]): void {
    this.all.push({ name, data });
  }
  of<N extends GuestEventName>(name: N): GuestEvents[N][] {
    // An event is recorded with its own name's data.
    return this.all.filter((event) => event.name === name).map(({ data }) => data as GuestEvents[N]);
  }
}

interface Machine {
  readonly domid: number;
  readonly kernel: GuestKernel;
  readonly events: Recorder;
  readonly vcpus: number;
}

const spec = (domid: number, vcpus: number, activities: readonly ActivityWorkloadSpec['spec'][]): GuestSpec => ({
  domid,
  name: `d${domid}`,
  control: domid === 0,
  vcpus,
  seed: 5 + domid,
  e820: domid === 0 ? null : [{ addr: 0, size: GUEST_MB * MB, type: 1 }],
  targetKb: null,
  staticMaxKb: null,
  bootTouchMb: 1,
  allocation: 'scattered',
  balloon: { ...defaultBalloon, enabled: false },
  foreignMapPlace: 'top-of-ram',
  workloads: activities.map((activity) => ({ id: activity.run, kind: 'activity', spec: activity })),
  timeScale: 1,
});

export class Machines {
  readonly host = new RealHost({ frames: FRAMES, pcpus: 1, grantFrames: 2, maptrackFrames: 2 }, 64);
  readonly all: Machine[] = [];
  private readonly sharing: SharingPolicies;
  private turn = 0;
  private now = 0;

  constructor(sharing: Partial<SharingPolicies> = {}) {
    this.sharing = { ...todaysSharing, ...sharing };
  }

  private boot(domid: number, vcpus: number, activities: readonly ActivityWorkloadSpec['spec'][]): Machine {
    const events = new Recorder();
    const guest = { ...spec(domid, vcpus, activities), sharing: this.sharing };
    const shared = bootGuest(guest, this.host.port(domid), events);
    const ports = Array.from({ length: vcpus }, (_, vcpu) => ({ vcpu, port: this.host.port(domid, vcpu) }));
    const machine = { domid, kernel: new GuestKernel(shared, ports, events), events, vcpus };
    this.all.push(machine);
    return machine;
  }

  dom0(...activities: readonly ActivityWorkloadSpec['spec'][]): Machine {
    return this.boot(0, 4, activities);
  }

  guest(...activities: readonly ActivityWorkloadSpec['spec'][]): Machine {
    const port = this.host.port(0);
    const kind = { hvm: true, hap: true, iommu: false, noSharept: false, vcpus: 2, deviceModel: true };
    const { domid = -1 } = port.call({ op: 'createdomain', domid: 0, name: 'guest', ...kind });
    port.multicall([
      { op: 'max_mem', domid, maxKb: (GUEST_MB + 4) * 1024 },
      { op: 'set_paging_mempool_size', domid, bytes: MB },
      { op: 'populate_physmap', domid, order: 9, memFlags: 0, extents: { start: 0, count: GUEST_MB / 2 } },
      { op: 'unpausedomain', domid },
    ]);
    return this.boot(domid, 2, activities);
  }

  /** Tells an activity to begin, and lets it come to where it is ready, or has failed. */
  begin(machine: Machine, id: string, peers: readonly Machine[], attempts: number): GuestEvents['activity'] {
    const order = { begin: true, turn: ++this.turn, peers: peers.map(({ domid }) => domid), attempts } as const;
    return this.order(machine, id, order, ({ phase }) => phase === 'ready' || phase === 'failed');
  }

  end(machine: Machine, id: string): GuestEvents['activity'] {
    return this.order(machine, id, { begin: false, turn: ++this.turn }, ({ phase }) => phase === 'over');
  }

  private order(
    machine: Machine,
    id: string,
    order: ActivityOrder,
    until: (report: GuestEvents['activity']) => boolean,
  ): GuestEvents['activity'] {
    machine.kernel.command({ do: 'activity', id, order });
    return this.runUntil(machine, id, (report) => report.turn === order.turn && until(report));
  }

  /** Slices of all kernels until the activity's last report is as wanted; a generous bound ends a spec that would not. */
  runUntil(
    machine: Machine,
    id: string,
    wanted: (report: GuestEvents['activity']) => boolean,
  ): GuestEvents['activity'] {
    for (let round = 0; round < 20_000; round++) {
      const last = machine.events.of('activity').findLast((report) => report.id === id);
      if (last && wanted(last)) return last;
      for (const { kernel, vcpus } of this.all) {
        for (let vcpu = 0; vcpu < vcpus; vcpu++) kernel.run(vcpu, this.now);
      }
      this.now += 1;
    }
    throw new Error(`${id}: ${JSON.stringify(machine.events.all.at(-1))}`);
  }

  /** Names of all invariants that kernels and host found violated. */
  get violated(): string[] {
    const kernels = this.all.flatMap(({ events }) => events.of('violation').map(({ invariant }) => invariant));
    return [...new Set([...kernels, ...this.host.log.violations.map(({ invariant }) => invariant)])].sort();
  }
}
