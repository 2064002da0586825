// What is wrong with a guest's layout: refused, RAM over reserved regions, BARs without room or over something, pages taken that a
// device's region needs. The same list is what findings are made of and what a search for a better setting asks for.
import { logText } from '#formats/xl-output';
import type { Sbdf } from '#model/frames/addresses';
import { errno } from '#model/hypercall/errno';
import { E820_RAM } from '#model/toolstack/e820';
import type { GuestConfig } from '#model/toolstack/guest-config';
import { libxlAt, libxlFailed, libxlWarning } from '#model/toolstack/libxl-log';
import { pciSbdf } from '#model/toolstack/pci-spec';
import type { GuestLayout, PlacedBar, PlanningHost } from './guest-layout.ts';
import { bdfText } from './machine.ts';
import { type ByteRange, hex, overlap, PAGE, rangeText, sizeText } from './ranges.ts';

export interface LayoutProblem {
  readonly code:
    | 'LIBXL-REFUSED'
    | 'RDM-CONFLICT'
    | 'RDM-IGNORED'
    | 'FIRMWARE-CRASH'
    | 'BAR-NO-SPACE'
    | 'BAR-OVER-RESERVED'
    | 'RMRR-IDENTITY-BUSY'
    | 'RMRR-SHARED-STRICT';
  /** Tells one problem from another across layouts. */
  readonly key: string;
  readonly message: string;
  readonly evidence: readonly string[];
  /** It does not stop the guest. */
  readonly tolerated: boolean;
}

const problem = (
  code: LayoutProblem['code'],
  key: string,
  message: string,
  evidence: readonly string[],
  tolerated = false,
): LayoutProblem => ({ code, key: `${code} ${key}`, message, evidence, tolerated });

export function layoutProblems(host: PlanningHost, config: GuestConfig, layout: GuestLayout): LayoutProblem[] {
  return [
    ...refusalProblem(layout),
    ...ignoredProblems(layout),
    ...layout.bars.flatMap((bar) => barProblem(bar, layout)),
    ...sharedProblems(host, config),
    ...(layout.refusal === null ? identityProblems(host, config, layout) : []),
  ];
}

function refusalProblem({ refusal }: GuestLayout): LayoutProblem[] {
  if (refusal === null) return [];
  if (refusal.by === 'hvmloader') {
    return [problem('FIRMWARE-CRASH', refusal.message, 'hvmloader dies while it sets the guest up', refusal.lines)];
  }
  const conflict = refusal.lines.find((line) => line.includes('RDM conflict at '));
  return conflict === undefined
    ? [problem('LIBXL-REFUSED', refusal.message, `libxl refuses the guest: ${refusal.message}`, refusal.lines)]
    : [
        problem(
          'RDM-CONFLICT',
          conflict,
          'guest RAM would lie over a reserved region and the policy is strict',
          refusal.lines,
        ),
      ];
}

/** Regions that libxl kept from the guest's map because the guest has RAM there. */
const ignoredProblems = ({ rdms, lowmemEnd, highmemEnd }: GuestLayout): LayoutProblem[] =>
  rdms
    .filter(({ policy }) => policy === 'invalid')
    .map(({ start, size }) => {
      const region = rangeText({ start, end: start + size - 1 });
      const ram =
        highmemEnd === 0 ? `0–${hex(lowmemEnd - 1)}` : `0–${hex(lowmemEnd - 1)} and 100000000–${hex(highmemEnd - 1)}`;
      return problem(
        'RDM-IGNORED',
        region,
        `guest RAM lies over the reserved region ${region}: the device’s accesses to it reach the guest’s own memory`,
        [logText(libxlWarning(libxlAt.rdmIgnored, `Ignoring RDM conflict at 0x${hex(start)}.`)), `guest RAM ${ram}`],
        true,
      );
    });

export const barName = ({ sbdf, guestSlot, index }: PlacedBar): string => {
  const which = index === 'rom' ? 'ROM' : `BAR ${index}`;
  return sbdf === null ? `${which} of the emulated device ${guestSlot}` : `${which} of ${bdfText(sbdf)}`;
};

export const barRange = ({ address, size }: PlacedBar): ByteRange | null =>
  address === null ? null : { start: address, end: address + size - 1 };

function barProblem(bar: PlacedBar, { e820, console, rdms }: GuestLayout): LayoutProblem[] {
  const range = barRange(bar);
  const name = barName(bar);
  if (range === null) {
    const lines = console.filter((line) => line.startsWith(`pci dev ${bar.guestSlot} `) && line.includes('no space'));
    // The guest's own system may still place what firmware left; an emulated ROM is needed by nobody.
    return [problem('BAR-NO-SPACE', name, `no room for ${name} (${sizeText(bar.size)})`, lines, bar.index === 'rom')];
  }
  if (bar.isIo) return [];
  // hvmloader does not know of a hidden region; Xen has its pages mapped one to one before the BAR's come.
  const hidden = rdms.find(
    ({ start, size, policy }) => policy === 'invalid' && overlap(range, { start, end: start + size - 1 }) !== null,
  );
  if (hidden && bar.sbdf !== null && bar.index !== 'rom') {
    const place = rangeText({ start: hidden.start, end: hidden.start + hidden.size - 1 });
    const what = `${name} at ${rangeText(range)} lies over the reserved region ${place}, which the relaxed policy hid from firmware`;
    return [
      problem('BAR-OVER-RESERVED', name, what, [
        logText(libxlFailed(libxlAt.assignFailed, 'xc_domain_memory_mapping failed', -errno.EPERM, 1)),
      ]),
    ];
  }
  const under = e820.find(({ addr, size }) => overlap(range, { start: addr, end: addr + size - 1 }) !== null);
  if (!under) return [];
  const what = under.type === E820_RAM ? 'RAM' : 'a reserved region';
  const place = rangeText({ start: under.addr, end: under.addr + under.size - 1 });
  return [problem('BAR-OVER-RESERVED', name, `${name} at ${rangeText(range)} lies over ${what} (${place})`, [], true)];
}

/** Where the layout may be as it likes: Xen answers -EPERM. */
const sharedProblems = (host: PlanningHost, config: GuestConfig): LayoutProblem[] =>
  config.pci
    .filter((pci) => pci.rdmPolicy !== 'relaxed' && host.shared.has(pciSbdf(pci)))
    .map((pci) => problem('RMRR-SHARED-STRICT', bdfText(pciSbdf(pci)), 'a shared region under the strict policy', []));

/**
 * set_identity_p2m_entry page by page, when the devices come: memory and special pages are there by then, a device's windows are
 * not. Strict refuses the device (-EBUSY), relaxed leaves the page out.
 */
function identityProblems(host: PlanningHost, config: GuestConfig, layout: GuestLayout): LayoutProblem[] {
  if (config.type !== 'hvm') return [];
  return config.pci.flatMap((pci) => {
    const sbdf: Sbdf = pciSbdf(pci);
    return host.rdm.forDevice(sbdf).flatMap(({ startPfn, nrPages }) => {
      const region = { start: startPfn * PAGE, end: (startPfn + nrPages) * PAGE - 1 };
      const taken = layout.populated.map((range) => overlap(range, region)).find((range) => range !== null);
      if (!taken) return [];
      const relaxed = pci.rdmPolicy === 'relaxed';
      const gfn = hex(Math.floor(taken.start / PAGE));
      const lines = [`(XEN) Cannot setup identity map d1:${gfn}, gfn already mapped to MFN.`];
      if (!relaxed)
        lines.push(`(XEN) [VT-D]d1: cannot map reserved region [${hex(region.start)},${hex(region.end)}]: -16`);
      const what = `${rangeText(taken)} of the reserved region of ${bdfText(sbdf)} is taken in the guest when the device comes`;
      return [problem('RMRR-IDENTITY-BUSY', `${bdfText(sbdf)} ${rangeText(region)}`, what, lines, relaxed)];
    });
  });
}
