// Where firmware puts the windows of a passed-through card, and for which mmio_hole: the guest is planned with the holes that xl
// accepts, by the functions that the toolstack and firmware use. Told wherever a guest's driver uses a BAR.

import { xlConfigText } from '#formats/guest-text';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { guestLayoutOf, type PlacedBar, type PlanningHost } from '#preflight/guest-layout';
import { machineOfHost } from '#preflight/host-machine';
import { planningView } from '#preflight/planning-host';
import type { Explanation, ReportTable } from '#report/verdict';
import type { TwinState } from '../runner/twin-state.ts';

/** xl's range for mmio_hole, in MiB. */
const HOLE_MIN = 256;
const HOLE_MAX = 3840;
/** Apart in the first pass; between two values of different outcome the edge is looked for. */
const COARSE = 16;
const FOUR_GIB = 2 ** 32;
const KIB = 1024;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

type Place = 'below 4 GiB' | 'above RAM' | 'nowhere' | 'refused';

interface Hole {
  readonly mib: number;
  readonly place: Place;
  readonly address: number | null;
}

export function explainWindows(state: TwinState): Explanation | null {
  const step = state.twin.timeline.find((candidate) => candidate.do === 'bar-io');
  const guest = state.twin.guests.find(({ name }) => name === step?.guest);
  if (!step || !guest) return null;
  const parsed = parseGuestConfig(xlConfigText(guest), guest.config.file);
  if (!parsed.ok) return null;
  const { host } = planningView(machineOfHost(state.twin.host));
  const bars = guestLayoutOf(host, parsed.config).bars.filter(({ sbdf, isIo }) => sbdf !== null && !isIo);
  const used = bars.find(({ sbdf, index }) => sbdf === step.device && index === step.bar);
  if (!used) return null;
  const holes = holesOf(host, parsed.config, step.device, step.bar);
  return {
    title:
      used.address === null
        ? 'Why the driver finds no memory: a hole of the wrong size'
        : 'Why it works: the window has an address',
    paragraphs: paragraphs(used, parsed.config, holes),
    tables: [placeTable(bars), holeTable(holes)],
  };
}

const hex = (n: number): string => n.toString(16).padStart(8, '0');
const sizeText = (bytes: number): string =>
  bytes >= GIB ? `${bytes / GIB} GiB` : bytes >= MIB ? `${bytes / MIB} MiB` : `${bytes / KIB} KiB`;

const placeOf = (address: number | null): Place =>
  address === null ? 'nowhere' : address < FOUR_GIB ? 'below 4 GiB' : 'above RAM';

/** The window's place for one hole. */
function plan(host: PlanningHost, config: GuestConfig, device: Sbdf, index: number, mib: number): Hole {
  const { bars, refusal } = guestLayoutOf(host, { ...config, mmioHoleMemkb: mib * KIB });
  const bar = bars.find((candidate) => candidate.sbdf === device && candidate.index === index);
  if (refusal || !bar) return { mib, place: 'refused', address: null };
  return { mib, place: placeOf(bar.address), address: bar.address };
}

/** The first hole of each run of holes with one outcome, ascending. */
function holesOf(host: PlanningHost, config: GuestConfig, device: Sbdf, index: number): Hole[] {
  const at = (mib: number): Hole => plan(host, config, device, index, mib);
  const firsts = [at(HOLE_MIN)];
  for (let mib = HOLE_MIN; mib < HOLE_MAX; mib += COARSE) {
    const last = firsts.at(-1) as Hole; // never empty
    const next = at(Math.min(HOLE_MAX, mib + COARSE));
    if (next.place === last.place) continue;
    let [before, first] = [mib, next];
    while (first.mib - before > 1) {
      const middle = at(Math.floor((before + first.mib) / 2));
      if (middle.place === last.place) before = middle.mib;
      else first = middle;
    }
    firsts.push(first);
  }
  return firsts;
}

function paragraphs(used: PlacedBar, config: GuestConfig, holes: readonly Hole[]): string[] {
  const name = `BAR ${used.index} of \`${formatSbdf(used.sbdf as Sbdf)}\``; // a passed-through device's
  const hole = config.mmioHoleMemkb === 0 ? 'no mmio_hole' : `mmio_hole=${config.mmioHoleMemkb / KIB}`;
  const low = holes.find(({ place }) => place === 'below 4 GiB');
  const size = sizeText(used.size);
  const where = {
    'below 4 GiB': `firmware put it at \`${hex(used.address ?? 0)}\`, in the window below 4 GiB.`,
    'above RAM': `firmware put it at \`${hex(used.address ?? 0)}\`, above the guest's RAM, at a multiple of its size.`,
    nowhere:
      'the sum of all windows fits the hole, so firmware moves nothing above RAM; but a window must lie at a multiple of its size, and at ' +
      'the only such address too little is left. Firmware prints “no space for resource!” and leaves the register empty.',
    refused: 'the guest is not built.',
  }[placeOf(used.address)];
  return [
    `${name} is ${size} large. With ${hole}, ${where}`,
    used.size > GIB
      ? 'A 64-bit window of more than 1 GiB goes above RAM whatever the hole is, and does not count for it.'
      : 'Firmware sums up all windows of at most 1 GiB. If they need more than there is between the hole’s start and `fc000000`, 64-bit ones go ' +
        'above RAM, the largest first, until the rest fits; a 32-bit system cannot reach them there.',
    low
      ? `The smallest hole with the window below 4 GiB is \`mmio_hole=${low.mib}\`, found by planning this guest with the toolstack’s and firmware’s own ` +
        `functions: with every ${COARSE}th hole that xl accepts, and between two that differ with the ones in the middle.`
      : 'No hole that xl accepts has the window below 4 GiB.',
  ];
}

function placeTable(bars: readonly PlacedBar[]): ReportTable {
  return {
    caption: 'The cards’ memory windows in this guest, as firmware places them',
    head: ['device', 'BAR', 'size', 'kind', 'address'],
    rows: bars.map(({ sbdf, index, size, is64bit, address }) => [
      formatSbdf(sbdf as Sbdf), // passed-through devices only
      `${index}`,
      sizeText(size),
      is64bit ? '64-bit' : '32-bit',
      address === null ? 'none' : hex(address),
    ]),
  };
}

function holeTable(holes: readonly Hole[]): ReportTable {
  return {
    caption: 'Where the window would lie with other holes',
    head: ['mmio_hole', 'the window lies', 'at first at'],
    rows: holes.map(({ mib, place, address }, i) => [
      `${mib}–${(holes[i + 1]?.mib ?? HOLE_MAX + 1) - 1}`,
      place,
      address === null ? '–' : hex(address),
    ]),
  };
}
