// The first story, played on this host for a newcomer: each step does one thing, its caption stands until what it speaks of has
// really happened, and the view that shows it is opened. It can be skipped, stopped and played again.
import type { Deed } from '#wire/dashboard';
import type { LiveDomain } from '#wire/live';
import { host } from './host.svelte.ts';
import { route, type View } from './route.svelte.ts';

const GUEST = 'story-gpu';
const GPU = '0000:00:02.0';
const GPU_SBDF = 16;
const MIB = 256;
const CONFIG = `name = "${GUEST}"
type = "hvm"
memory = 2048
maxmem = 2048
vcpus = 2
mmio_hole = 2048
pci = [ "${GPU}" ]
on_reboot = "restart"
on_crash = "preserve"
`;
const TARGET_MB = 1920;
/** A caption can be read in so long. */
const READ_MS = 5000;
const STEP_MS = 60_000;
const LOOK_MS = 250;

interface Step {
  readonly caption: string;
  readonly deeds?: () => readonly Deed[];
  readonly view?: () => readonly [View, string, Readonly<Record<string, string>>];
  readonly until?: () => boolean;
}

const guest = (): LiveDomain | undefined => host.pulse?.domains.findLast(({ name }) => name === GUEST);
const guestId = (): number => guest()?.domid ?? 0;

class Story {
  /** Place of the step that is shown; -1: no story is played. */
  step = $state(-1);
  caption = $state('');
  over = $state(false);
  private skipped = false;
  private turn = 0;
  /** The domain before it was rebooted. */
  private before = 0;
  private faultsBefore = 0;

  get steps(): number {
    return steps.length;
  }

  /** Whether this host has what the story needs. */
  get canPlay(): boolean {
    return host.mayChange && (host.machine?.devices.some(({ sbdf }) => sbdf === GPU_SBDF) ?? false);
  }

  async play(): Promise<void> {
    const turn = ++this.turn;
    this.over = false;
    const old = guest();
    if (old) await host.do({ do: 'destroy', domid: old.domid });
    for (const [i, step] of steps.entries()) {
      if (turn !== this.turn) return;
      if (!(await this.show(turn, i, step))) return;
    }
    this.over = true;
  }

  skip(): void {
    this.skipped = true;
  }

  stop(): void {
    this.turn++;
    this.step = -1;
  }

  /** False: it was stopped, or the host refused. */
  private async show(turn: number, i: number, step: Step): Promise<boolean> {
    this.step = i;
    this.caption = step.caption;
    this.skipped = false;
    this.before = guestId();
    this.faultsBefore = faults();
    const shownAt = performance.now();
    if (step.view) route.go(...step.view());
    for (const deed of step.deeds?.() ?? []) {
      const { ok, text } = await host.do(deed);
      // A device that is assignable already is as it should be.
      if (ok || deed.do === 'pci-assignable-add') continue;
      this.caption = `Here this host refuses, as today's toolstack does: ${text.split('\n').at(-1)}`;
      this.over = true;
      return false;
    }
    const done = step.until ?? (() => true);
    while (turn === this.turn && !this.skipped) {
      const shown = performance.now() - shownAt;
      if ((shown > READ_MS && done()) || shown > STEP_MS) break;
      await new Promise((settle) => setTimeout(settle, LOOK_MS));
    }
    return turn === this.turn;
  }

  get isRebuilt(): boolean {
    const d = guest();
    return d !== undefined && d.domid !== this.before && d.podEntries > 0 && kernelRuns(d.domid);
  }

  get hasFaulted(): boolean {
    return faults() > this.faultsBefore;
  }
}

/** Not before it has booted does it hear of a new target. */
const kernelRuns = (domid: number): boolean =>
  host.events.some((event) => event.domid === domid && event.text.startsWith('its kernel runs:'));
const faults = (): number => host.events.filter(({ kind }) => kind === 'fault').length;
const lastFault = () => host.events.findLast(({ fault }) => fault !== undefined)?.fault;

const steps: readonly Step[] = [
  {
    caption: 'This is the machine: every cell is a piece of its memory, blue is dom0, the rest is free.',
    view: () => ['map', '', {}],
  },
  {
    caption: 'A guest gets the graphics card and 2 GiB. Its frames are taken from the free ones: watch them fill.',
    deeds: () => [
      { do: 'pci-assignable-add', sbdf: GPU },
      { do: 'create', config: CONFIG },
    ],
    until: () => kernelRuns(guestId()),
  },
  {
    caption:
      'It gives back 128 MiB, page by page. Above is what its CPUs see, below what the card sees: 2M blocks break into slivers.',
    view: () => ['guest', String(guestId()), {}],
    deeds: () => [{ do: 'mem-set', domid: guestId(), mb: TARGET_MB }],
    until: () => (guest()?.totPages ?? 0) < (TARGET_MB + 8) * MIB,
  },
  {
    caption:
      'It is rebooted, below its maximum: all its RAM is populated on demand now. Hatched: there is no frame behind it yet.',
    deeds: () => [{ do: 'reboot', domid: guestId() }],
    until: () => story.isRebuilt,
  },
  {
    caption: 'Its driver hands the card pages that no CPU has touched, and the card writes there …',
    view: () => ['guest', String(guestId()), {}],
    deeds: () => [{ do: 'dma', domid: guestId(), sbdf: GPU_SBDF, place: 'untouched', attempts: 8 }],
    until: () => story.hasFaulted,
  },
  {
    caption:
      'Nothing is mapped there, and nobody will map it: a CPU’s access traps into Xen, which finds a frame; a device’s does not.',
    view: () => {
      const fault = lastFault();
      if (!fault) return ['dma', '', {}];
      return ['dma', '', { device: fault.sbdf.toString(16), frame: fault.dfn.toString(16) }];
    },
  },
];

export const story = new Story();
