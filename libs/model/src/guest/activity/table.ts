// All activities by name, and how a kernel starts them: memory at boot, then on each vCPU the roles that belong to it. To add one:
// its values in spec.ts, its file, a line here, its written form in libs/formats (activity-forms.ts).
import type { GuestMemory } from '../guest-memory.ts';
import { GuestPanic } from '../guest-panic.ts';
import type { ActivityWorkloadSpec, GuestSpec } from '../guest-spec.ts';
import type { TaskContext } from '../task.ts';
import { type ActivityKind, ActivityTask, vcpuOfRole } from './activity.ts';
import { barPlacer } from './bar-placer.ts';
import { boardBytes } from './board.ts';
import { borrower } from './borrower.ts';
import { copier } from './copier.ts';
import { frontend } from './frontend.ts';
import { gntdev } from './gntdev-user.ts';
import { hoarder } from './hoarder.ts';
import { kvm } from './kvm.ts';
import { largeLender } from './large-lender.ts';
import { lender } from './lender.ts';
import { mover } from './mover.ts';
import { type ActivityName, type SharingPolicies, type SpecOf, todaysSharing } from './spec.ts';
import { translator } from './translator.ts';

const GIB_PAGES = 262_144;

/** Each is given back what its own boot made: the types of its data and figures are its own affair. */
type Kinds = { readonly [N in ActivityName]: ActivityKind<SpecOf<N>, unknown, string> };

const kinds: Kinds = {
  lender,
  borrower,
  kvm,
  copier,
  'large-lender': largeLender,
  hoarder,
  gntdev,
  frontend,
  mover,
  translator,
  'bar-placer': barPlacer,
};

/** The kind of a specification; its own type is lost, its name is not. */
const kindOf = ({ run }: ActivityWorkloadSpec['spec']): ActivityKind<unknown, unknown, string> => kinds[run];

/** What all vCPUs of the guest share of one activity; structured-cloneable. */
export interface ActivityShared {
  readonly board: SharedArrayBuffer;
  readonly data: unknown;
  readonly unusedGfn: number;
}

/** Memory of the guest's activities, by workload, taken before its drivers take theirs. `slotsBase`: gfns from here on are unused. */
export function bootActivities(
  spec: GuestSpec,
  memory: GuestMemory,
  slotsBase: number,
): Record<string, ActivityShared> {
  const all: Record<string, ActivityShared> = {};
  let unusedGfn = slotsBase;
  for (const workload of spec.workloads) {
    if (workload.kind !== 'activity') continue;
    const kind = kindOf(workload.spec);
    if (spec.vcpus < kind.roles) {
      throw new GuestPanic(`activity ${workload.spec.run} takes ${kind.roles} vCPUs, and there are ${spec.vcpus}`);
    }
    unusedGfn += GIB_PAGES;
    const data = kind.boot(workload.spec, { guest: spec, memory, unusedGfn });
    all[workload.id] = { board: new SharedArrayBuffer(boardBytes(kind.figures.length)), data, unusedGfn };
  }
  return all;
}

/** The roles that one vCPU has in an activity, as tasks. */
export function activityTasks(
  guest: GuestSpec,
  { id, spec }: ActivityWorkloadSpec,
  shared: ActivityShared,
  vcpu: number,
  task: TaskContext,
): ActivityTask<unknown, unknown, string>[] {
  const kind = kindOf(spec);
  const sharing: SharingPolicies = guest.sharing ?? todaysSharing;
  const { data, unusedGfn, board } = shared;
  return Array.from({ length: kind.roles }, (_, role) => role)
    .filter((role) => vcpuOfRole(guest.vcpus, kind.roles, role) === vcpu)
    .map((role) => new ActivityTask(id, kind, role, { spec, data, task, vcpu, sharing, unusedGfn }, board));
}
