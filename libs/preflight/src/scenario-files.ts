// Scenarios with this machine and its guests filled in, for the questions that only a run answers: does each guest come up as
// planned, does splitting a superpage disturb DMA (superpages), are pages flushed before they change hands (map and revoke). Owns the
// text of these files; what a scenario means is formats/scenario-*.
import type { Sbdf } from '#model/frames/addresses';
import { formatSbdf } from '#model/frames/addresses';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { isBridge } from './device-report.ts';
import type { GuestFile, GuestReport } from './guest-report.ts';
import { hostYaml } from './host-yaml.ts';
import type { PreflightReport } from './preflight.ts';

export interface ScenarioFile {
  readonly name: string;
  readonly text: string;
  /** What running it answers; null: a file that the others name. */
  readonly question: string | null;
}

const HOST_FILE = 'host.yaml';
/** A dom0 as small as the story's, so that few large mappings are split often. */
const DOM0_MB = 256;
const DOM0_LESS_MB = 224;
const RING_FRAMES = 8192;

const quoted = (text: string): string => JSON.stringify(text);
/** A part of a file name. */
const fileName = (name: string): string => name.replaceAll(/[^A-Za-z0-9_-]+/g, '-').slice(0, 40) || 'guest';

/** `cfgs`: the guests' own files, in the order of the report's guests. */
export function scenarioFiles(report: PreflightReport, cfgs: readonly GuestFile[]): ScenarioFile[] {
  const { machine, guests } = report;
  const device = deviceForDma(report);
  const large = machine.host.iommuUnits.every(({ caps }) => caps.superpages.includes('2M'));
  return [
    { name: HOST_FILE, text: hostYaml(machine), question: null },
    ...guests.flatMap((guest, i) => guestFiles(guest, cfgs[i]?.text ?? '')),
    ...(device !== null && large ? [superpages(machine.host.name, device), mapRevoke(machine.host.name, device)] : []),
  ];
}

/** A device of a guest first; it does the DMA in dom0. */
function deviceForDma({ machine, guests, boot }: PreflightReport): Sbdf | null {
  if (!boot.iommuOn) return null;
  const passed = guests.flatMap(({ config }) => (config?.pci ?? []).map(pciSbdf));
  const known = machine.host.devices.filter((device) => !isBridge(device)).map(({ sbdf }) => sbdf);
  return passed.find((sbdf) => known.includes(sbdf)) ?? known[0] ?? null;
}

function guestFiles(guest: GuestReport, text: string): ScenarioFile[] {
  const { config, layout, verdict } = guest;
  if (!config || !layout || config.type === 'pv') return [];
  const base = fileName(guest.name);
  const refused = verdict === 'does not start' ? refusalPattern(guest) : null;
  if (verdict === 'does not start' && refused === null) return [];
  const devices = config.pci.map((pci) => `  - { do: pci-assignable-add, device: ${formatSbdf(pciSbdf(pci))} }`);
  const question = `Does ${guest.name} come up on this machine as planned?`;
  const create =
    refused === null
      ? `  - { do: create, guest: ${base} }`
      : `  - { do: create, guest: ${base}, expectError: ${quoted(refused)} }`;
  const lines = [
    `question: ${quoted(question)}`,
    `host: ${HOST_FILE}`,
    'guests:',
    `  - name: ${base}`,
    `    config: ${base}.cfg`,
    'timeline:',
    ...devices,
    create,
    '  - { do: check-invariants }',
    'expect:',
    ...(refused === null ? expectedMap(guest, base) : [`  - { guest: ${base}, is: absent }`]),
    '  - noFault: {}',
    "  - never: '*'",
  ];
  return [
    { name: `${base}.cfg`, text, question: null },
    { name: `${base}.yaml`, text: `${lines.join('\n')}\n`, question },
  ];
}

/** libxl’s last words, if libxl it is that refuses. */
function refusalPattern({ layout }: GuestReport): string | null {
  const { refusal } = layout ?? { refusal: null };
  if (refusal === null || refusal.by !== 'libxl') return null;
  return refusal.message.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}

/** RAM and reserved rows from 1 MiB on, as planned. */
function expectedMap({ layout }: GuestReport, name: string): string[] {
  const types: Readonly<Record<number, string>> = { 1: 'usable', 2: 'reserved' };
  const rows = (layout?.e820 ?? []).flatMap(({ addr, size, type }) => {
    const word = types[type];
    const below = addr < 2 ** 20 || (addr >= 0xfc000000 && addr < 2 ** 32);
    if (word === undefined || below || size <= 0) return [];
    return [`        - { start: 0x${addr.toString(16)}, end: 0x${(addr + size - 1).toString(16)}, type: ${word} }`];
  });
  return [`  - { guest: ${name}, is: running }`, '  - e820:', `      guest: ${name}`, '      rows:', ...rows];
}

/** dom0 gives single pages up while a device works in its memory. */
function dmaLines(question: string, device: Sbdf): string[] {
  return [
    `question: ${quoted(question)}`,
    `host: ${HOST_FILE}`,
    'policies: { iommu.tables: separate }',
    'attempts: 200',
    'dom0:',
    `  memoryMb: ${DOM0_MB}`,
    '  vcpus: 2',
    '  workload:',
    '    - { run: balloon }',
    `    - { run: nic, device: ${formatSbdf(device)}, ringFrames: ${RING_FRAMES}, rate: max }`,
    'timeline:',
    '  - { do: create-beside, count: 16, memoryMb: 16 }',
    `  - { do: mem-set, guest: dom0, mb: ${DOM0_LESS_MB} }`,
    '  - { do: wait-for, condition: { guest: dom0, is: at-target }, timeout: 60s }',
    '  - { do: check-invariants }',
  ];
}

const STAYS_WELL = ['      - { guest: dom0, is: running }', '      - noFault: {}', "      - never: '*'"];

function superpages(host: string, device: Sbdf): ScenarioFile {
  const question = `Does DMA of ${formatSbdf(device)} fault on ${host} while a 2M mapping is split for one 4K page?`;
  const lines = [
    ...dmaLines(question, device),
    '# A CPU that is held up between two stores makes a window easier to meet; it makes none where there is none.',
    'faults:',
    '  - { at: { kind: ptWrite, nth: 1, every: 1 }, do: { delay: 20us } }',
    'expect:',
    '  - violated: neighboursStayMapped',
    'twins:',
    '  naive:',
    '    kind: buggy',
    '    title: the 2M entry is cleared and the neighbours are mapped again one by one',
    '    policies: { shatter: naive }',
    '  atomic:',
    '    kind: fixed',
    '    title: the small table is put in place by one store',
    '    policies: { shatter: atomic }',
    '    expect:',
    '      - { counter: iommu.ptShatters, atLeast: 1 }',
    ...STAYS_WELL,
  ];
  return { name: 'superpages.yaml', text: `${lines.join('\n')}\n`, question };
}

function mapRevoke(host: string, device: Sbdf): ScenarioFile {
  const question = `Are pages on ${host} out of reach of ${formatSbdf(device)} before somebody else gets them?`;
  const lines = [
    ...dmaLines(question, device),
    'expect:',
    '  - violated: noIotlbEntryToFreeFrame',
    'twins:',
    '  lost:',
    '    kind: buggy',
    '    title: the IOTLB is not flushed when a page is taken away',
    '    policies: { iotlb.flush: lost }',
    '  sync:',
    '    kind: fixed',
    '    title: it is flushed before the call returns',
    '    policies: { iotlb.flush: sync }',
    '    expect:',
    ...STAYS_WELL,
  ];
  return { name: 'map-revoke.yaml', text: `${lines.join('\n')}\n`, question };
}
