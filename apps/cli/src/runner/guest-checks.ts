// What can be seen of a scenario before anything is started: the host must be able to share tables where a twin wants that; the
// guests' xl.cfg must parse, they must fit the host beside dom0, and the devices they name must be there. Owns those checks; every mistake is told with the file and line a person wrote.
import { placeOfXlLine, xlConfigText } from '#formats/guest-text';
import { hostConfig } from '#formats/host-config';
import { usableBytes } from '#formats/host-schema';
import { OperatorError, type Problem } from '#formats/operator-error';
import type { Scenario, ScenarioGuest, Step, Twin, XlValue } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import { sharingMistake } from '#model/iommu/sharing';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { parseXlcfg } from '#model/toolstack/xlcfg-parser';

const KIB_PER_MIB = 1024;
const MIB = 2 ** 20;

/** Throws OperatorError with everything that is wrong. */
export function checkGuests(scenario: Scenario): void {
  const problems = new Map<string, Problem>();
  for (const twin of scenario.twins) {
    const mistake = sharingMistake(hostConfig(twin.host, twin.policies));
    if (mistake !== null) {
      problems.set(`sharing ${twin.name}`, {
        file: scenario.file,
        line: twin.line,
        message: `twin ${twin.name} wants iommu.tables: shared, but ${mistake}`,
        remedy: 'use auto or separate, or a host whose IOMMU units map all page sizes that EPT uses',
      });
    }
    for (const guest of twin.guests) {
      // As written, and as each step that creates it changes it.
      for (const set of [{}, ...settingsOf(twin.timeline, guest.name)]) {
        for (const problem of checkGuest(scenario, twin, guest, set)) {
          problems.set(`${problem.file}:${problem.line}:${problem.message}`, problem);
        }
      }
    }
  }
  const [first, ...rest] = problems.values();
  if (first) throw new OperatorError([first, ...rest]);
}

function settingsOf(timeline: readonly Step[], guest: string): Readonly<Record<string, XlValue>>[] {
  return timeline.flatMap((step) => (step.do === 'create' && step.guest === guest ? [step.set] : []));
}

function checkGuest(
  scenario: Scenario,
  twin: Twin,
  guest: ScenarioGuest,
  set: Readonly<Record<string, XlValue>>,
): Problem[] {
  const text = xlConfigText(guest, set);
  const parsed = parseGuestConfig(text, guest.config.file);
  const placeOf = (line: number | undefined) => placeOfXlLine(guest, scenario.file, line ?? 1);
  if (!parsed.ok) {
    return parsed.errors.map(({ line, message, remedy }) => ({
      ...placeOf(line),
      message: withoutPlace(message, guest.config.file),
      remedy: remedy ?? 'correct the xl.cfg',
    }));
  }
  const settings = parseXlcfg(text, guest.config.file);
  const lineOf = (key: string): number | undefined => (settings.ok ? settings.settings.get(key)?.line : undefined);
  return [
    ...checkSize(parsed.config, twin).map((words) => ({ ...placeOf(lineOf('maxmem') ?? lineOf('memory')), ...words })),
    ...checkDevices(parsed.config, twin).map((words) => ({ ...placeOf(lineOf('pci')), ...words })),
  ];
}

/** The parser's messages begin with file and line, which a problem has already. */
const withoutPlace = (message: string, file: string): string =>
  message.startsWith(`${file}:`) ? message.slice(file.length + 1).replace(/^\d+: */, '') : message;

type Words = Pick<Problem, 'message' | 'remedy'>;

/** Memory that a guest is built with (less than its maximum under PoD) must be there. */
function checkSize({ name, targetMemkb, maxMemkb }: GuestConfig, { host, dom0 }: Twin): Words[] {
  const hostMb = Math.floor(usableBytes(host.memoryMap) / MIB) - host.xenReservedMb;
  const roomMb = Math.min(hostMb, host.heapLimitMb ?? hostMb) - dom0.memoryMb;
  const wantedMb = Math.ceil((targetMemkb ?? maxMemkb ?? 0) / KIB_PER_MIB);
  if (wantedMb <= roomMb) return [];
  return [
    {
      message: `guest ${name} of ${wantedMb} MiB does not fit: ${host.name} has ${roomMb} MiB beside dom0's ${dom0.memoryMb}`,
      remedy: `give it at most ${roomMb} MiB, or take a larger host (hosts/)`,
    },
  ];
}

function checkDevices({ name, pci }: GuestConfig, { host }: Twin): Words[] {
  const there = new Set<number>(host.devices.map(({ sbdf }) => sbdf));
  return pci
    .filter((device) => device.name === null && !there.has(pciSbdf(device)))
    .map((device) => ({
      message: `guest ${name} is given ${formatSbdf(pciSbdf(device))}, which ${host.name} does not have`,
      remedy: `devices of ${host.file}: ${host.devices.map(({ sbdf }) => formatSbdf(sbdf)).join(', ') || 'none'}`,
    }));
}
