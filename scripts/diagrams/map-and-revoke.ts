// docs/map-and-revoke.md: how memory of one party is shown to another and taken back, in four ways, each as the diagram of a run.
import type { Domain } from '#model/domain/domain';
import { gtf } from '#model/grant/shared-entry';
import { gntmap } from '#model/grant/status';
import { migratePage } from '#model/guest/mm/migration';
import { Mm } from '#model/guest/mm/mm';
import { createMm, defaultMm } from '#model/guest/mm/mm-config';
import { mmapPages } from '#model/guest/mm/unmap';
import { VirtioGpuBackend } from '#model/guest/mm/virtio-gpu-backend';
import { XenMemory } from '#model/guest/mm/xen-memory';
import type { Host } from '#model/host';
import { type Call, physmapSpace } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import type { LockTable } from '#model/shared-memory/lock-table';
import { bootTestbed, hypercall, makeGuest, type Testbed } from '../../libs/model/test-support/hypercall-fixture.ts';
import { Kernel } from '../../libs/model/test-support/mm-fixture.ts';
import { type LockNames, RecordedPort, Recorder } from './recorder.ts';

const GUEST = 'guest';
const DOM0 = 'dom0 kernel';
const XEN = 'Xen';
const HOST = 'host kernel';
const WINDOW = 0x4000;

interface Run {
  readonly name: string;
  readonly heading: string;
  readonly text: string;
  play(recorder: Recorder): string;
}

/** Only locks of these kinds are told. */
const named =
  (table: LockTable, names: Readonly<Record<string, string>>): LockNames =>
  (lock) => {
    const found = Object.entries(names).find(([name]) => table.nameOf(lock).startsWith(name));
    return found ? found[1].replace('%', table.nameOf(lock)) : null;
  };

const kernelLocks = {
  guestDriver: 'the driver lock',
  guestKvmMmu: 'mmu_lock',
  guestNotifiers: 'the notifiers’ lock',
  guestPageTable: 'the page table lock',
} as const;

function host(): { readonly bed: Testbed; readonly guest: Domain } {
  const bed = bootTestbed({ iommuEnabled: false, units: [], devices: [], grantFrames: 1, maptrackFrames: 1 });
  const guest = makeGuest(bed);
  const populate = (domid: number, start: number, count: number): void => {
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start, count } });
  };
  populate(0, 0x100, 16);
  populate(guest.domid, 0x100, 16);
  return { bed, guest };
}

/** One access of the guest's vCPU; what Xen has to do for it is told. `wait`: it may have to wait, and what it goes on with. */
function access(r: Recorder, h: Host, guest: Domain, gfn: number, state: Parameters<Recorder['hypercall']>[5] = null) {
  const call: Call = { op: 'load', frames: { start: gfn, count: 1 } };
  const faults = h.counters.read('cpu.eptViolation');
  r.say(GUEST, GUEST, state ? 'runs again: the same load' : `loads from gfn ${gfn.toString(16)}`, 'event');
  const mark = r.mark();
  const outcome = r.as(XEN, () => runOnce(h, guest, call, state));
  if (outcome.end === 'blocked') {
    r.sayAt(mark, GUEST, XEN, 'EPT violation: lent, and not there. The vCPU waits');
    return outcome.state;
  }
  if (outcome.end !== 'done') throw new Error('the access does not end');
  const nothing = 'faulted' in outcome.answer && outcome.answer.faulted === 1;
  if (h.counters.read('cpu.eptViolation') > faults && nothing) {
    r.sayAt(mark, GUEST, XEN, 'EPT violation: nothing there, to the device model');
  } else r.say(GUEST, GUEST, 'finds the page', 'event');
  return null;
}

const runOnce = (h: Host, domain: Domain, call: Call, state: ContinuationState | null) =>
  runCall(h, { domain, vcpu: 0, preempt: () => false }, call, state);

/** mmu_lock and the second stage are KVM’s; pages, their table and the notifiers the kernel’s. */
const kvmOwner = (text: string): string =>
  text.includes('mmu_lock') || text.includes('table entry') || text.includes('flushes') ? 'KVM' : HOST;

const kvm: Run = {
  name: 'kvm',
  heading: 'KVM, without Xen',
  text: 'The guest’s memory is memory of a process of the host’s kernel. A fault looks the page up and enters it in the second stage under mmu_lock, unless something was invalidated meanwhile; moving a page takes the entry away first. Nobody lends, nobody pins.',
  play: (r) => {
    const slot = { gfn: 0x1000, page: 0, count: 8 };
    const config = { machine: 0, slot, vcpus: 1, snapshot: '64', retryCheck: 'under-lock' } as const;
    const kernel = new Kernel({ machines: 1, pages: 8, frames: { ram: 12, vram: 0, slot: 0 } }, null, config);
    const machine = kernel.kvm;
    mmapPages(kernel.mm, { kind: 'ram', start: 0, end: 8, writable: true });
    const touch = (): void => {
      const before = machine.faults;
      r.say(GUEST, GUEST, 'stores to gfn 1003', 'event');
      r.say(GUEST, 'KVM', 'runs', 'call');
      r.as('KVM', () => machine.access(0, 0x1003, true, 7));
      r.say('KVM', GUEST, machine.faults > before ? 'one fault, and runs again' : 'no exit', 'reply');
    };
    return r.chapter(
      'KVM',
      named(kernel.mm.locks, kernelLocks),
      () => {
        touch();
        touch();
        r.say(HOST, HOST, 'moves the page', 'event');
        r.as(HOST, () => migratePage(kernel.mm, 3, 'ram'));
        r.say(HOST, HOST, 'it is in another frame now', 'event');
        touch();
      },
      kvmOwner,
    );
  },
};

const grants: Run = {
  name: 'grants',
  heading: 'Grants',
  text: 'dom0 grants a page, the guest maps it. When dom0’s kernel wants the page back it cannot take it: the entry is in use, and when it ends is the guest’s affair. So the page has to stay where it is (pinned) for as long.',
  play: (r) => {
    const { bed, guest } = host();
    const { h, dom0 } = bed;
    const table = 0x8000;
    const ref = 8;
    const rest = { start: 0, length: 0, transDomid: 0, transRef: 0, version: 1 };
    const entry = { gfn: table, index: ref, flags: gtf.permitAccess, domid: guest.domid, frame: 0x100, ...rest };
    const show = {
      op: 'add_to_physmap',
      domid: 0,
      space: physmapSpace.grantTable,
      idx: 0,
      gpfn: table,
      size: 0,
    } as const;
    hypercall(bed, dom0, show);
    const end = { op: 'grant_entry_end', gfn: table, index: ref, version: 1 } as const;
    return r.chapter('grants', named(h.lockTable, { 'p2m(': '%', grantActive: '%' }), () => {
      r.say(DOM0, DOM0, 'writes grant 8 into its table: page 100, for the guest', 'event');
      r.as(DOM0, () => hypercall(bed, dom0, { op: 'grant_entry_set', ...entry }));
      const ops = [{ hostAddr: WINDOW * 4096, flags: gntmap.host, ref, domid: 0 }];
      r.hypercall(h, guest, GUEST, { op: 'gnttab_map_grant_ref', ops }, 'gnttab_map_grant_ref 8 of d0 at gfn 4000');
      access(r, h, guest, WINDOW);
      r.say(DOM0, DOM0, 'wants the page back: may the entry be cleared?', 'event');
      const busy = r.as(DOM0, () => hypercall(bed, dom0, end)).rc;
      r.say(DOM0, DOM0, busy < 0 ? 'it is in use: wait for the guest' : 'it was not in use', 'event');
      access(r, h, guest, WINDOW);
      const unmap = [{ hostAddr: WINDOW * 4096, devBusAddr: 0, handle: 1 }];
      r.hypercall(
        h,
        guest,
        GUEST,
        { op: 'gnttab_unmap_grant_ref', ops: unmap },
        'gnttab_unmap_grant_ref, when it likes',
      );
      const free = r.as(DOM0, () => hypercall(bed, dom0, end)).rc;
      r.say(DOM0, DOM0, free === 0 ? 'the entry is cleared: the page is its own again' : `still ${free}`, 'event');
    });
  },
};

const foreign: Run = {
  name: 'foreign-map',
  heading: 'Foreign mapping',
  text: 'dom0 maps a page of the guest’s, as the toolstack and device models do. The mapping holds a reference: the guest may give the page up, but the frame stays allocated until dom0 unmaps it. The right to map is the mapper’s; the owner is not asked and not told.',
  play: (r) => {
    const { bed, guest } = host();
    const { h, dom0 } = bed;
    const { domid } = guest;
    return r.chapter('foreign mapping', named(h.lockTable, { 'p2m(': '%' }), () => {
      const pages = { idxs: { start: 0x100, count: 1 }, gpfns: { start: WINDOW, count: 1 } };
      const space = physmapSpace.gmfnForeign;
      const map: Call = { op: 'add_to_physmap_batch', domid: 0, space, foreignDomid: domid, ...pages };
      r.hypercall(h, dom0, DOM0, map, 'add_to_physmap_batch: gfn 100 of the guest at gfn 4000');
      const give: Call = { op: 'decrease_reservation', domid, order: 0, extents: { start: 0x100, count: 1 } };
      r.hypercall(h, guest, GUEST, give, 'decrease_reservation: gives gfn 100 up');
      r.say(XEN, XEN, 'the frame has no gfn in the guest, and is still allocated', 'event');
      r.hypercall(
        h,
        dom0,
        DOM0,
        { op: 'remove_from_physmap', domid: 0, gpfn: WINDOW },
        'remove_from_physmap: gfn 4000',
      );
    });
  },
};

const label = (call: Call): string => {
  switch (call.op) {
    case 'lend_open':
      return `lend_open: ${call.count} pages at gfn ${call.first.toString(16)}`;
    case 'lend':
      return `lend: one page at gfn ${call.first.toString(16)}`;
    case 'revoke':
      return `revoke: ${call.count} page at gfn ${call.first.toString(16)}`;
    default:
      return call.op;
  }
};

const lending: Run = {
  name: 'lending',
  heading: 'Lend and revoke',
  text: 'A backend in dom0 shows a buffer that its kernel goes on moving (proposed in March 2026, not in Xen). The callback of its notifier revokes: that cannot fail, allocates nothing and waits for nobody but a flush. The guest’s next touch waits for the backend, which looks the page up where it is now, and lends it unless it has moved again meanwhile.',
  play: (r) => {
    const { bed, guest } = host();
    const { h, dom0 } = bed;
    const pages = 4;
    const frames = { ram: 8, vram: 0, slot: 0 };
    const port = new RecordedPort(r, h, dom0, DOM0, label);
    const memory = new XenMemory(port, { ram: 0x100, vram: 0, slot: 0 }, frames);
    const violation = ({ text }: { readonly text: string }): never => {
      throw new Error(text);
    };
    const shared = createMm({ ...defaultMm, tasks: ['main'], drivers: ['virtio-gpu'], pages, frames });
    const mm = new Mm(shared, 0, { violation }, memory);
    const backend = new VirtioGpuBackend(mm, port, memory, {
      driver: 0,
      domid: guest.domid,
      gfn: WINDOW,
      page: 0,
      count: pages,
      retryCheck: 'under-lock',
      onFailure: 'zero-page',
    });
    mmapPages(mm, { kind: 'ram', start: 0, end: pages, writable: true });
    const xenLocks = named(h.lockTable, { 'p2m(': '%' });
    const ours = named(mm.locks, kernelLocks);
    // Both number their locks from 0: whose steps they are says which is meant.
    let inKernel = false;
    const kernel = <T>(action: () => T): T => {
      inKernel = true;
      try {
        return r.as(DOM0, action);
      } finally {
        inKernel = false;
      }
    };
    return r.chapter(
      'lend and revoke',
      (lock) => (inKernel && r.by === DOM0 ? ours(lock) : xenLocks(lock)),
      () => {
        const sub = kernel(() => backend.open());
        const touch = (): void => {
          const waiting = access(r, h, guest, WINDOW + 3);
          if (waiting === null) return;
          r.say(XEN, DOM0, 'event: a borrower waits', 'event');
          kernel(() => backend.serveFaults(sub, false));
          r.say(XEN, GUEST, 'wakes the vCPU', 'event');
          access(r, h, guest, WINDOW + 3, waiting);
        };
        touch();
        r.say(DOM0, DOM0, 'moves page 3: the notifier’s callback', 'event');
        kernel(() => migratePage(mm, 3, 'ram'));
        r.say(DOM0, DOM0, 'the page is in another frame now', 'event');
        touch();
      },
    );
  },
};

const runs: readonly Run[] = [kvm, grants, foreign, lending];

/** The page; the same text each time. */
export function mapAndRevokePage(header: string): string {
  const recorder = new Recorder();
  const parts = runs.map(
    (run) => `## ${run.heading}

${run.text}

Run \`${run.name}\`:

\`\`\`mermaid
${run.play(recorder).trimEnd()}
\`\`\``,
  );
  return `${header}
# Map and revoke

How memory of one party is shown to a guest, and taken back. Each diagram is drawn from a run of the model in one thread: arrows are
calls, answers and faults; a party's arrow to itself is a step that the model took there (a lock, a table entry, a reference, a flush);
numbers are steps. \`npm run docs\` runs them again. What the ways cost beside each other, and what happens when all of this races, is
measured by \`hostloom bench lending\` ([answers](lending-answers.md)) and \`hostloom bench lock-contention\`
([answer](lock-contention.md)).

${parts.join('\n\n')}
`;
}
