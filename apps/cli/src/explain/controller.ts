// A USB controller and the memory that firmware reserved for it: what its driver found there at first, where the controller's writes
// went, and who or what was in the way. Told wherever a timeline lets a controller use its region.

import type { HostRmrr } from '#formats/host-file';
import type { Step } from '#formats/scenario';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { Explanation, ReportTable } from '#report/verdict';
import type { Peek } from '#wire/hv-messages';
import { workloadId } from '../launcher/guest-kernel-options.ts';
import type { ControllerSeen } from '../runner/observer.ts';
import type { Snapshot } from '../runner/snapshot.ts';
import { guestName, notableLines } from '../runner/telling.ts';
import type { TwinState } from '../runner/twin-state.ts';

const PAGE = 4096;
const LINES_MAX = 6;

type Use = Extract<Step, { do: 'reserved-io' }>;

/** One controller of one guest. */
interface Controller {
  readonly guest: string;
  readonly device: Sbdf;
  readonly seen: ControllerSeen;
}

interface Story {
  readonly state: TwinState;
  readonly region: HostRmrr;
  readonly controllers: readonly Controller[];
  /** What the first guest has at the region's first frame at the end. */
  readonly peek: Peek | null;
}

export function explainController(state: TwinState, snapshot: Snapshot | null): Explanation | null {
  const uses = state.twin.timeline.filter((step): step is Use => step.do === 'reserved-io');
  const [first] = uses;
  const region = state.twin.host.rmrrs.find(({ devices }) => first && devices.includes(first.device));
  if (!first || !region) return null;
  const peek = snapshot?.peeks.get(Math.floor(region.start / PAGE)) ?? null;
  const story = { state, region, controllers: controllersOf(state, uses), peek };
  return { ...tell(story), tables: [controllerTable(story), ...linesTable(state)] };
}

function controllersOf(state: TwinState, uses: readonly Use[]): Controller[] {
  const found = new Map<string, Controller>();
  for (const { guest, device } of uses) {
    const id = workloadId({ run: 'usb', device, rate: 0 });
    const kernel = state.observer.guests().findLast(({ domid }) => guestName(state, domid) === guest);
    const seen = kernel?.controllers.get(id);
    if (seen) found.set(`${guest} ${id}`, { guest, device, seen });
  }
  return [...found.values()];
}

const hex = (n: number): string => n.toString(16);
const sum = ({ controllers }: Story, figure: 'faults' | 'foreign' | 'unseen' | 'completed'): number =>
  controllers.reduce((total, { seen }) => total + seen[figure], 0);

function tell(story: Story): Pick<Explanation, 'title' | 'paragraphs'> {
  const { region, peek } = story;
  const gfn = Math.floor(region.start / PAGE);
  const intro =
    `Firmware reserves \`${hex(region.start)}-${hex(region.end)}\` for \`${region.devices.map(formatSbdf).join(', ')}\`: it emulates a keyboard ` +
    'through the controller, which writes there at any time, by host addresses. In a guest that owns it the same addresses must ' +
    'lead to the same frames (gfn = mfn), for the device and for the CPU.';
  const guests = new Set(story.controllers.map(({ guest }) => guest));
  if (guests.size > 1 && sum(story, 'foreign') > 0) return between(story, intro);
  if (sum(story, 'faults') > 0) return faulted(story, intro, gfn);
  if (peek && peek.iommuMfn !== gfn && peek.iommu !== 'absent') return astray(story, intro, gfn, peek);
  if (sum(story, 'unseen') > 0) return disagreeing(story, intro, gfn);
  return works(story, intro, gfn);
}

function between({ controllers }: Story, intro: string): Pick<Explanation, 'title' | 'paragraphs'> {
  const [a, b] = controllers;
  const names = `${a?.guest} (\`${formatSbdf(a?.device ?? (0 as Sbdf))}\`) and ${b?.guest} (\`${formatSbdf(b?.device ?? (0 as Sbdf))}\`)`; // two, or there is no story
  const victim = controllers.find(({ seen }) => seen.foreign > 0);
  return {
    title: 'What the two guests can do to each other: read and overwrite one another’s data',
    paragraphs: [
      intro,
      `${names} each have the region mapped 1:1, so both have the same host frames, with the right to write. Xen keeps no other guest’s frame in reach ` +
        'of a device, but these frames belong to nobody: only the toolstack’s “relaxed” let both in.',
      `${victim?.guest} looked for what its controller had written, and found foreign data in ${victim?.seen.foreign} frames, first at gfn ` +
        `\`${hex(victim?.seen.firstWrong ?? 0)}\` (\`${hex((victim?.seen.found ?? 0) >>> 0)}\`). So the frames are a channel, and a way to make the other’s firmware read what one likes.`,
      'What stops it: the strict policy, which is the default of every device. Xen then refuses a device whose region another device names too ' +
        '(-EPERM), before it maps anything. Giving the whole group to one guest is fine for the others, and still needs “relaxed”.',
    ],
  };
}

function faulted({ state, controllers }: Story, intro: string, gfn: number): Pick<Explanation, 'title' | 'paragraphs'> {
  const faults = controllers.reduce((total, { seen }) => total + seen.faults, 0);
  const gaveUp = state.twin.timeline.some((step) => step.do === 'enter-reserved' && step.how === 'give-up');
  return {
    title: 'Why the device faults: nothing is mapped where its reserved memory should be',
    paragraphs: [
      intro,
      `${faults} writes faulted. The p2m has nothing at gfn \`${hex(gfn)}\`${
        gaveUp
          ? ': the guest gave the page up, as if it were RAM that its balloon can spare, and Xen took the identity entry away.'
          : ', and the IOMMU shares its tables. Xen of 2014 made identity maps in the IOMMU’s own tables only; where the tables are the CPU’s, ' +
            'it made none.'
      }`,
      gaveUp
        ? 'Since XSA-378 an identity entry can only be taken away by what made it, when the device leaves.'
        : 'Today the identity entries are in the p2m, for CPU and device alike, with separate and with shared tables.',
    ],
  };
}

/** How a frame that is not firmware's came there. */
function culprit({ twin }: TwinState): string {
  const { timeline } = twin;
  const entered = timeline.find((step) => step.do === 'enter-reserved');
  if (entered?.do === 'enter-reserved') {
    return entered.how === 'move'
      ? 'its kernel moved a page of its own there'
      : 'its balloon populated the page, although its memory map says reserved';
  }
  if (timeline.some((step) => step.do === 'device-model'))
    return 'its QEMU mapped the controller’s own registers there';
  const plugged = timeline.some((step) => step.do === 'pci-attach');
  return plugged
    ? 'the guest was built before anybody knew that this device would come, and has RAM there'
    : 'the guest was built with RAM there';
}

function astray(story: Story, intro: string, gfn: number, peek: Peek): Pick<Explanation, 'title' | 'paragraphs'> {
  const { state } = story;
  const replaced = state.twin.policies['special-entries'] === 'replaceable';
  const way = replaced
    ? 'Xen before XSA-378 took the identity entry for a mapping like any other, and replaced it'
    : 'under the relaxed policy Xen left that in place, said so, and gave the guest its device';
  return {
    title: 'Why what the controller writes is lost: its reserved memory leads elsewhere',
    paragraphs: [
      intro,
      `At gfn \`${hex(gfn)}\` the p2m has \`${peek.p2mType}\`, mfn \`${hex(Math.max(0, peek.mfn))}\`: ${culprit(state)}, and ${way}.`,
      `The controller does not know. All ${sum(story, 'completed')} writes completed, none in firmware’s frames: the keyboard emulation is dead, and what is ` +
        'now at these addresses is overwritten at any time. Nothing faults.',
      replaced
        ? 'Since XSA-378: moving a page there is refused (-EPERM), giving it up does nothing, populating it or mapping a window over it ends the guest. It may ' +
          'break itself; its device is not left with a wrong page.'
        : 'What prevents it: the strict policy, which refuses the device or the guest; or a memory map that keeps the region free from the start ' +
          '(`rdm="strategy=host"` for devices that may come later, the default boundary, `mmio_hole`).',
    ],
  };
}

function disagreeing(story: Story, intro: string, gfn: number): Pick<Explanation, 'title' | 'paragraphs'> {
  return {
    title: 'Why CPU and device disagree: the region is mapped for one of them only',
    paragraphs: [
      intro,
      `The IOMMU maps dfn \`${hex(gfn)}\` to the firmware’s frame, the p2m has \`${story.peek?.p2mType ?? 'something else'}\` there: the guest’s RAM. What the ` +
        `controller wrote the CPU did not find, in ${sum(story, 'unseen')} frames.`,
      'It hits any driver too: a buffer that the guest’s kernel puts at these addresses, which its memory map calls RAM, is firmware’s memory for every ' +
        'device of the guest. Xen of 2014 allowed it with separate tables; today the p2m decides for both.',
    ],
  };
}

function works(story: Story, intro: string, gfn: number): Pick<Explanation, 'title' | 'paragraphs'> {
  const { controllers, state, peek } = story;
  const found = controllers
    .map(({ guest, device, seen }) =>
      seen.region
        ? `\`${formatSbdf(device)}\` of ${guest} found firmware’s tag in ${seen.region.firmware} of ${seen.region.pages} frames`
        : `\`${formatSbdf(device)}\` of ${guest} said nothing of its region`,
    )
    .join('; ');
  const tried = state.twin.timeline.some((step) => step.do === 'enter-reserved' || step.do === 'device-model');
  const gone = peek?.iommu === 'absent';
  return {
    title: tried
      ? 'Why it works: the identity entries withstood'
      : 'Why it works: the region is the firmware’s for everybody',
    paragraphs: [
      intro,
      `${found}. All writes arrived there, and the CPU found each. ` +
        (gone
          ? `The last device that needs the region has left, and with it the entry of gfn \`${hex(gfn)}\`.`
          : `The p2m entry of gfn \`${hex(gfn)}\` is \`${peek?.p2mType ?? 'not looked at'}\`, mfn = gfn.`),
      ...(tried
        ? [
            'Whoever tried to get at the frames was refused each time; the entry belongs to the device’s assignment alone.',
          ]
        : []),
    ],
  };
}

function controllerTable({ controllers }: Story): ReportTable {
  return {
    caption: 'What the controllers and their drivers saw',
    head: [
      'guest',
      'controller',
      'frames',
      'firmware’s at first',
      'written',
      'faults',
      'not seen by the CPU',
      'foreign data',
    ],
    rows: controllers.map(({ guest, device, seen }) => [
      guest,
      formatSbdf(device),
      `${seen.region?.pages ?? 0}`,
      `${seen.region?.firmware ?? 0}`,
      `${seen.completed}`,
      `${seen.faults}`,
      `${seen.unseen}`,
      `${seen.foreign}`,
    ]),
  };
}

function linesTable(state: TwinState): ReportTable[] {
  const lines = [
    ...new Set([...state.observer.console.filter((line) => line.includes('shared RMRR')), ...notableLines(state)]),
  ];
  return lines.length === 0
    ? []
    : [{ caption: 'What Xen said', head: ['xl dmesg'], rows: lines.slice(0, LINES_MAX).map((line) => [line]) }];
}
