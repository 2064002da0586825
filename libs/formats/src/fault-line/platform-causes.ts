// What stands behind lines about firmware's tables, populate-on-demand memory, and drivers that lost a resource. One rule a kind.
import type { CauseRule, Evidence } from './cause.ts';
import type { FaultKind } from './fault-event.ts';

const PAGES_PER_MIB = 256;
const hex = (value: number): string => value.toString(16);
const mib = (pages: number): string => `${Math.round(pages / PAGES_PER_MIB)} MiB`;
const range = ({ event }: Evidence): string =>
  event.range === null ? 'the range' : `${hex(event.range.base)}-${hex(event.range.limit)}`;

const rule = (code: string, text: CauseRule['text'], remedies: readonly string[]): CauseRule => ({
  code,
  when: () => true,
  text,
  remedies: () => remedies,
});

const badRmrr = rule(
  'RMRR-BAD',
  (e) =>
    `firmware's RMRR ${range(e)} is not covered by a reserved entry of the memory map (or its ends are wrong): a firmware mistake; the system goes on and the device may use memory that others get`,
  ['a firmware update', 'hostloom inspect e820 LOG shows how the range lies in the map'],
);

const firmwareTables: Partial<Record<FaultKind, CauseRule>> = {
  'rmrr-not-reserved': rule(
    'RMRR-IN-HOLE',
    (e) =>
      e.event.by === 'Linux'
        ? `no entry of firmware's memory map reserves the RMRR ${range(e)}: a firmware mistake; it lies in a hole or in RAM`
        : `the RMRR ${range(e)} is not (entirely) reserved in the memory map: it lies in a hole or in RAM. Older Xen only warns, does not map the range for dom0, and the device that uses it faults; today's Xen reserves the pages where the map has nothing and refuses the range where it has RAM`,
    [
      'dom0-iommu=map-inclusive (older: iommu_inclusive_mapping=1)',
      'a firmware update',
      'hostloom inspect e820 LOG shows what covers it',
    ],
  ),
  'rmrr-bad': badRmrr,
  'rmrr-overlap': rule(
    'RMRR-OVERLAP',
    () => 'two RMRRs overlap: Xen takes the whole DMAR table as broken and turns VT-d off (EEXIST)',
    ['a firmware update', 'hostloom inspect dmar FILE shows both with their offsets'],
  ),
  'rmrr-scope-broken': rule(
    'RMRR-SCOPE-BROKEN',
    (e) =>
      `the RMRR's scope leads to ${e.event.device ?? 'a device'} by a path over bridges that is not what the bus numbers say now (a root port's children moved, or the entry is wrong); Linux takes the device for its last hop as a workaround`,
    ['a firmware update', 'harmless unless that device is to be given to a guest'],
  ),
  'rmrr-ignored': rule(
    'RMRR-IGNORED',
    () =>
      'the devices that the RMRR is for are not there: switched off in firmware, or behind a bridge that is not set up yet',
    ['nothing, if the devices are off on purpose'],
  ),
  'rmrr-relaxed': rule(
    'RMRR-RELAXED',
    () =>
      'this kernel was patched to take every RMRR as relaxable (relax-intel-rmrr): devices are given away although their firmware may go on writing to the range. This line confirms that it is on; it is no error',
    ['take it off unless the platform’s vendor says that the ranges are not used'],
  ),
  'dmar-broken': rule(
    'DMAR-BROKEN',
    (e) =>
      e.event.text.includes('address') || e.event.by === 'Xen'
        ? "the DMAR table is broken: a remapping unit's registers are at address 0, or the table cannot be parsed; the IOMMU stays off"
        : `the DMAR table or what it leads to is broken${e.event.detail === null ? '' : `: ${e.event.detail}`}`,
    [
      'a firmware update, or VT-d switched off and on again in firmware',
      'hostloom inspect dmar FILE names offset and field',
    ],
  ),
  'stale-tables': rule(
    'STALE-DMA',
    () =>
      'translation was on already when this kernel started: a dump or kexec kernel takes over the tables of the one before, whose transfers still run',
    ['harmless unless faults follow; then a driver does not reset its device'],
  ),
};

const memory: Partial<Record<FaultKind, CauseRule>> = {
  'pod-exhausted': rule(
    'POD-EXHAUSTED',
    ({ event: { figures, domain } }) => {
      const { tot = 0, ents = 0, running } = figures;
      const started = `domain ${domain} has ${mib(tot)} of memory and still ${mib(ents)} promised on demand`;
      const who =
        running === undefined || running === domain
          ? 'the guest itself touched one page more than it was given: it never ballooned down to its target, because its driver was not up yet or does not exist'
          : running === 0
            ? 'dom0 touched it, not the guest: while saving, suspending or mapping its memory, every page that is looked at becomes real'
            : `domain ${running} touched it`;
      return `${started}; its cache is empty, so Xen crashes it: ${who}`;
    },
    [
      'set memory equal to maxmem (XAPI: dynamic range equal to static max), or a memory that the guest needs before its balloon driver works',
      'a balloon driver that starts early; before save or migration let it reach its target',
    ],
  ),
  'pod-cache': rule(
    'POD-CACHE',
    () =>
      'the host has no free memory to fill the populate-on-demand cache to its target: the guest will be short of pages',
    ['free memory on the host (xl info free_memory), or a lower target'],
  ),
  'over-allocation': rule(
    'OVER-ALLOCATION',
    ({ event: { figures } }) =>
      `the domain asked for ${figures.want ?? '?'} pages and may have ${figures.max ?? '?'}: a balloon driver that goes beyond what the toolstack set`,
    ['xl mem-max, or a target that leaves room for the video memory'],
  ),
  'out-of-memory': rule('OUT-OF-MEMORY', () => 'the host has not enough free memory for the guest', [
    'xl info: free_memory',
    'a smaller guest, or dom0 ballooned down',
  ]),
  'domain-crash': rule(
    'DOMAIN-CRASH',
    (e) =>
      `Xen ended the domain${e.event.detail === null ? '' : ` from ${e.event.detail}`}; the reason is in the lines before`,
    ['give the lines before it as well'],
  ),
};

const consequences: Partial<Record<FaultKind, CauseRule>> = {
  'interrupt-fault': rule(
    'INTERRUPT-REMAPPING',
    () =>
      'an interrupt was blocked by interrupt remapping (its entry is clear, or its format is not allowed): no matter of memory, and noise in this log',
    ['nothing for memory; a firmware update if a device loses interrupts'],
  ),
  'device-init-failed': rule(
    'DIRECT-MAP-OVERWRITTEN',
    (e) =>
      `${e.event.device ?? 'the device'} does not answer its driver. Storage and RAID adapters keep firmware structures in memory that the IVRS table (IVMD) or DMAR table (RMRR) reserves for them; with several such ranges behind one IOMMU some kernels kept only the last one (its exclusion range), so the other adapter's memory is not mapped`,
    [
      'a kernel that maps every IVMD instead of one exclusion range',
      'hostloom inspect ivrs FILE shows the ranges of the device',
      'iommu=pt',
    ],
  ),
  'bar-not-claimed': rule(
    'BAR-OVER-GUEST-RAM',
    () =>
      'a PV guest without the host’s memory map has RAM at the address where the device’s BAR is, so its kernel cannot claim the BAR and takes the device offline',
    ['e820_host=1 in the guest’s configuration (xl sets it by itself when pci= is not empty)'],
  ),
  'window-avoids-e820': rule(
    'E820-HOST-COLLISION',
    (e) =>
      `Linux keeps PCI addresses away from ${range(e)}, which the map it was given does not call free. In a PV guest with e820_host=1 the host's PCI region is not in that map as reserved, so a BAR or RAM may be put where the host has devices`,
    [
      'look where the guest put its BARs: cat /proc/iomem',
      'a kernel without "pci=use_e820", or fewer PCI devices by e820_host',
    ],
  ),
  'bar-no-space': rule(
    'BAR-NO-SPACE',
    () => 'a BAR found no room: the hole below 4 GiB is too small for it, and it is not moved above',
    [
      'a larger mmio_hole (256 to 3840 MiB), or a guest firmware that places 64-bit BARs above 4 GiB',
      'hostloom preflight finds the smallest hole that works',
    ],
  ),
  'iommu-timeout': rule(
    'INVALIDATION-TIMEOUT',
    () => 'the IOMMU waits for a device that does not confirm an invalidation (ATS): the device hangs or is gone',
    ['look at the device; ATS off for it (ats=0 with Xen, pci=noats with Linux)'],
  ),
  'iommu-event': rule(
    'IOMMU-EVENT',
    (e) =>
      `the IOMMU reports ${e.event.detail ?? 'an event'}: its device table entry or a table it leads to is wrong, or the device sent a request it must not`,
    ['the whole log; hostloom inspect ivrs FILE'],
  ),
  'faults-suppressed': rule('FAULTS-SUPPRESSED', () => 'more faults came than are printed', [
    'look at the faults that were printed before',
  ]),
  'fault-reason': rule(
    'REASON-ALONE',
    (e) =>
      `the fault's reason alone (${e.event.detail ?? e.event.reason}); which device and address is in the line before it`,
    ['give the line with "Request device" as well'],
  ),
};

export const platformCauses: Partial<Readonly<Record<FaultKind, CauseRule>>> = {
  ...firmwareTables,
  ...memory,
  ...consequences,
};

/** An RMRR that is only announced: remarkable when it is empty or upside down. */
export const listedRmrrCauses: readonly CauseRule[] = [
  {
    ...rule(
      'RMRR-ZERO',
      () =>
        'firmware left this RMRR unfilled (base and limit 0): it names devices and reserves nothing for them, so what they use is not known',
      [
        'nothing to do for the mapping; a firmware update fills it',
        'Xen: page 0 may be taken for a reserved range of those devices',
      ],
    ),
    when: ({ event }) => event.range !== null && event.range.base === 0 && event.range.limit === 0,
  },
  { ...badRmrr, when: ({ event }) => event.range !== null && event.range.limit < event.range.base },
  rule(
    'RMRR-LISTED',
    (e) => `firmware reserves ${range(e)} for some devices (RMRR); this line announces it and is no error`,
    ['hostloom inspect e820 LOG shows how it lies in the map'],
  ),
];
