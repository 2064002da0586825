// Why a device's access was refused by the IOMMU: rules in order, the first that fits is the cause, later ones are said as also
// possible. Each looks at the fault reason, the device, where the address lies, and when it happened.
import type { CauseRule, Evidence } from './cause.ts';
import { isImageUnit, isIntegratedGraphics, isLaterFunction, isManagementEngine } from './device-hints.ts';
import { attachmentCauses } from './dma-table-causes.ts';
import { type GuestRegion, isFor, rangeOfSiblings, siblingsIn } from './fault-context.ts';

const FOUR_GIB = 2 ** 32;
const GIB = 2 ** 30;
const PAGE = 4096;
/** Linux gives out DMA addresses from 4 GiB downwards, then from the top of its 48-bit space: such an address is a mapping's. */
const IOVA_BELOW_4G = 0xf0000000;
const IOVA_TOP = 2 ** 46;
/** Above this and below 4 GiB, a PC has firmware's memory and devices, seldom RAM. */
const FIRMWARE_FROM = GIB;
/** Drivers take over their devices within the first seconds. */
const BOOT_SECONDS = 10;
/** A crash kernel or a late driver. */
const START_SECONDS = 60;

const hex = (value: number | null): string => (value === null ? '?' : value.toString(16));
const address = ({ event }: Evidence): number => event.address ?? -1;
const before = ({ event }: Evidence, seconds: number): boolean => event.uptime !== null && event.uptime < seconds;
const device = ({ event }: Evidence): string => event.device ?? 'the device';
const from = ({ event }: Evidence): string => (event.access === 'read' ? 'reads from' : 'writes to');
const byXen = ({ event }: Evidence): boolean => event.by === 'Xen' || event.by === 'a report';

/** Whose address it is, is known: rules about the host's addresses say nothing then. */
export const isInKnownGuest = (e: Evidence): boolean => isGuests(e) && guestRegionsAt(e) !== undefined;

/** The device is one that the given guest has, and the address no reserved range: addresses are the guest's then. */
const isGuests = ({ event, context: { guest }, place }: Evidence): boolean =>
  guest !== null && place?.range === null && (event.device === null || guest.devices.includes(event.device));

/** What the guest has at the address; undefined where its layout is not known. */
const guestRegionsAt = (e: Evidence): readonly GuestRegion[] | undefined =>
  e.context.guest?.regions?.filter(({ start, end }) => start <= address(e) && address(e) <= end);

const guestCauses: readonly CauseRule[] = [
  {
    code: 'POD-NOT-POPULATED',
    when: (e) =>
      isGuests(e) && (e.context.guest?.podMib ?? 0) > 0 && (guestRegionsAt(e)?.some(({ isRam }) => isRam) ?? true),
    text: (e) =>
      `the guest ${e.context.guest?.name} is populated on demand (${e.context.guest?.podMib} MiB of it at first) and no CPU has touched the page at ${hex(e.event.address)}: only a CPU's access populates, the IOMMU has no entry there, and a device's access is not replayed`,
    remedies: () => [
      'set memory equal to maxmem for a guest with a passed-through device (today libxl refuses anything else)',
      'hostloom run scenarios/pod-gpu-dma.yaml shows it, with its fixes',
    ],
  },
  {
    code: 'GUEST-HAS-NOTHING-THERE',
    when: (e) => isGuests(e) && guestRegionsAt(e)?.length === 0,
    text: (e) => `${device(e)} ${from(e)} ${hex(e.event.address)}, where its guest has neither RAM nor anything else`,
    remedies: () => [
      'look at the guest driver: it programmed an address beyond its memory',
      'if the address is memory that the guest ballooned out, keep its driver from DMA to it',
    ],
  },
  {
    code: 'GUEST-PAGE-GONE',
    when: (e) => isGuests(e) && (guestRegionsAt(e)?.some(({ isRam }) => isRam) ?? false),
    text: (e) =>
      `the guest ${e.context.guest?.name} has RAM at ${hex(e.event.address)} and is not populated on demand, so the page was there: it was ballooned out or given away while ${device(e)} still had its address, or its mapping was missing for a moment while a superpage was split`,
    remedies: () => [
      'keep the guest from ballooning while its device runs: memory equal to maxmem, and no mem-set',
      'hostloom run scenarios/shatter-inflight-dma.yaml shows the second case',
    ],
  },
  {
    code: 'GUEST-DEVICE-MEMORY',
    when: (e) => isGuests(e) && (guestRegionsAt(e)?.length ?? 0) > 0,
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}, which in its guest is ${guestRegionsAt(e)
        ?.map(({ what }) => what)
        .join(
          ' and ',
        )}: a device cannot reach emulated devices, and another device's registers only where they are mapped for it`,
    remedies: () => ['look at the guest driver: device to device DMA, or a stale address'],
  },
];

const rangeCauses: readonly CauseRule[] = [
  {
    code: 'RMRR-IN-HOLE',
    when: ({ place }) => place?.range != null && (place.range.notReserved === true || place.host === 'hole'),
    text: (e) =>
      `firmware names ${hex(e.place?.range?.base ?? null)}-${hex(e.place?.range?.limit ?? null)} as the device's reserved memory (RMRR) but does not reserve it in the memory map: it lies in a hole, so it is not mapped for the device, whose firmware or display goes on using it`,
    remedies: () => [
      'with Xen: dom0-iommu=map-inclusive (before 4.12 iommu_inclusive_mapping=1), or iommu=no-igfx for integrated graphics',
      'a firmware update, if it reserves the range',
    ],
  },
  {
    code: 'RMRR-SCOPE-INCOMPLETE',
    when: ({ place, event }) =>
      place?.range != null &&
      place.range.devices.length > 0 &&
      event.device !== null &&
      !isFor(place.range, event.device),
    text: (e) =>
      `the address is in a reserved range that firmware names for ${e.place?.range?.devices.join(', ')} and not for ${device(e)}, which uses it all the same`,
    remedies: () => scopeRemedies,
  },
  {
    code: 'RMRR-NOT-MAPPED',
    when: ({ place }) => place?.range != null,
    text: (e) =>
      `the address is in the reserved range (RMRR) of ${device(e)}, and the range is not mapped for it at this moment: the device is with a guest that hides or occupies the range (rdm_policy=relaxed), or between two owners`,
    remedies: () => [
      'rdm="strategy=host,policy=strict" in the guest, so that the range is kept free and mapped',
      'give the device back to dom0 (xl pci-assignable-remove) if its firmware must go on running',
    ],
  },
  {
    code: 'RMRR-SCOPE-INCOMPLETE',
    when: ({ context, event }) =>
      event.device !== null && rangeOfSiblings(event.device, context.reserved) !== undefined,
    text: (e) => {
      const range = rangeOfSiblings(e.event.device ?? '', e.context.reserved);
      const siblings = range === undefined ? [] : siblingsIn(range, e.event.device ?? '');
      return `firmware reserves ${hex(range?.base ?? null)}-${hex(range?.limit ?? null)} for other functions of the same device (${siblings.join(', ')}); ${device(e)} is not in its scope but its firmware ${from(e)} memory beside it (${hex(e.event.address)})`;
    },
    remedies: () => scopeRemedies,
  },
];

const scopeRemedies = [
  'with Xen: rmrr= on its command line for the missing functions, or pci-phantom=BB:SS,1 so that their accesses count as the first function’s',
  'a firmware update of the card or the board; until then the faults are noise if the device works',
];

const deviceCauses: readonly CauseRule[] = [
  {
    code: 'MANAGEMENT-ENGINE-MEMORY',
    when: isManagementEngine,
    text: (e) =>
      `${device(e)} is Intel's Management Engine (.7: its firmware TPM); it ${from(e)} memory that the DMAR table should name as an RMRR for it and does not, or names wrongly`,
    remedies: () => [
      'a firmware update',
      'with Linux: the TPM off in firmware, or intel_iommu=off if it is needed and there is none',
    ],
  },
  {
    code: 'OWN-MMU-DEVICE',
    when: isImageUnit,
    text: (e) =>
      `${device(e)} is an image unit (IPU) that has translation tables of its own: with the IOMMU translating as well, its addresses are not those the kernel mapped`,
    remedies: () => ['give it an identity domain (passthrough): a kernel that knows the quirk, or iommu=pt'],
  },
  {
    code: 'DMA-ABOVE-RAM',
    when: (e) => e.place?.host === 'above-ram' || (e.place?.host === 'unknown' && byXen(e) && address(e) >= FOUR_GIB),
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}, ${e.place?.host === 'above-ram' ? 'beyond the end of RAM' : 'most likely beyond the end of RAM'}: the driver gave it a bogus address, or one that is no machine address. Nothing maps it, and no inclusive mapping would: there is no memory`,
    remedies: () => [
      'look at the driver (for graphics: the dock, the kernel version); dom0-iommu=map-inclusive does not help',
      'give --dmesg or --host to compare with the end of RAM',
    ],
  },
  {
    code: 'IGD-STOLEN-MEMORY',
    when: (e) => isIntegratedGraphics(e) && address(e) < FOUR_GIB,
    text: (e) =>
      `the integrated graphics ${from(e)} ${hex(e.event.address)}, below 4 GiB: its stolen memory or the framebuffer that firmware set up there, which the display goes on scanning out. It is not mapped for the device: its RMRR lies in a hole or a quirk was not applied, or, passed through, the guest was rebooted and the device still uses the host address`,
    remedies: () => [
      'with Xen: dom0-iommu=map-inclusive, or iommu=no-igfx; look for an RMRR "not in reserved memory" in xl dmesg',
      'passed through: keep its RMRR (rdm="strategy=host"), and the host’s display off it',
      'give --dmesg and --dmar to see which range it is',
    ],
  },
];

const addressCauses: readonly CauseRule[] = [
  {
    code: 'STALE-DMA',
    when: (e) => !byXen(e) && e.event.access === 'write' && isIova(e) && before(e, START_SECONDS),
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}, a DMA address of the kernel before: transfers started then (by firmware, or by the kernel that crashed, when this is its dump kernel) are still running and their mappings are gone`,
    remedies: () => [
      'harmless once the driver has reset the device',
      'for a dump kernel: a driver that resets at start, or iommu=off for it',
    ],
  },
  {
    code: 'BEYOND-MAPPING',
    when: (e) => !byXen(e) && isIova(e) && !isMmio(e),
    text: (e) =>
      `${hex(e.event.address)} is a DMA address as the kernel gives them out (from 4 GiB, or from the top of the 48-bit space, downwards), not memory: ${device(e)} ${e.event.access === 'read' ? 'prefetched beyond the end of its mapping, or read after it was unmapped' : 'wrote after its mapping was gone'}`,
    remedies: () => [
      'look at device firmware and driver: an access beyond a buffer, or after the unmap',
      'iommu=pt hides it by mapping all RAM',
    ],
  },
  {
    code: 'BOOT-HANDOVER',
    when: (e) => !byXen(e) && before(e, BOOT_SECONDS),
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)} ${e.event.uptime} s after start: firmware left it running, its buffers are firmware memory, and its driver has not taken it over yet`,
    remedies: () => [
      'harmless if it ends once the driver has the device',
      'firmware: pre-boot DMA protection, or the port’s boot support off',
    ],
  },
  {
    code: 'RMRR-SCOPE-INCOMPLETE',
    when: (e) =>
      byXen(e) && isLaterFunction(e) && e.place?.host !== 'ram' && FIRMWARE_FROM <= address(e) && address(e) < FOUR_GIB,
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}, where firmware keeps memory: most likely the card's own firmware, for which the RMRR names the first functions only`,
    remedies: () => [...scopeRemedies, 'give --dmar or --dmesg to see the scopes'],
  },
  {
    code: 'DMA-TO-FIRMWARE-MEMORY',
    when: ({ place }) => place?.host === 'reserved',
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}: memory that firmware keeps and that no RMRR names for this device`,
    remedies: () => [
      'with Xen: dom0-iommu=map-reserved=yes (the default for a PV dom0), or rmrr=',
      'a firmware update that names the range as an RMRR',
    ],
  },
  {
    code: 'DMA-TO-MMIO-HOLE',
    when: (e) => e.place?.host === 'hole' || isMmio(e),
    text: (e) =>
      `${device(e)} ${from(e)} ${hex(e.event.address)}, in the hole below 4 GiB where devices have their registers (MMIO) and no RAM is: a wrong or stale address, or one device reaching for another's BAR`,
    remedies: () => [
      'look at the driver or the device’s state after reset',
      'device to device DMA must be mapped for it by its driver',
    ],
  },
  {
    code: 'GUEST-NOT-POPULATED',
    when: (e) => byXen(e),
    text: (e) =>
      `nothing is mapped for the device at ${hex(e.event.address)}. If the device is with a guest that was started below its maxmem, this is a page populated on demand that no CPU has touched: a device's access does not populate it, and is not replayed. Else the page was ballooned out or given away while the device still had its address`,
    remedies: () => [
      'set memory equal to maxmem for a guest with a passed-through device',
      'give --cfg with the guest’s configuration, and --dmesg or --host, to tell which it is',
    ],
  },
  {
    code: 'NOT-MAPPED',
    when: () => true,
    text: (e) => `nothing is mapped at ${hex(e.event.address)} for ${device(e)} to ${e.event.access ?? 'use'}`,
    remedies: () => ['give --dmesg, --dmar and --lspci of the machine to see what the address is'],
  },
];

/** Before any rule that compares the address. */
const beyondGuests: CauseRule = {
  code: 'ADDRESS-BEYOND-GUESTS',
  when: ({ event }) => event.wideAddress !== null,
  text: (e) =>
    `${device(e)} ${from(e)} ${e.event.wideAddress}, beyond every address that a guest or a host's RAM can have: a reserved range at the top of the address space (such as interrupt or HyperTransport ranges), or a bad pointer: a CPU's virtual address or an error value that a driver gave the device`,
  remedies: () => [
    'look at the driver: it must give the device the address that the DMA interface returned, and check that for errors',
    'it is no page populated on demand: memory equal to maxmem does not help',
  ],
};

const nullCause: CauseRule = {
  code: 'NULL-ADDRESS',
  when: (e) => 0 <= address(e) && address(e) < PAGE,
  text: (e) =>
    `${device(e)} ${from(e)} address ${hex(e.event.address)}: its driver left a zero in a ring or descriptor, or the device runs on a ring that was torn down (after an unplug or a reset)`,
  remedies: () => [
    'look at the driver: stop the device before its rings are freed',
    'a kernel update; the access harmed nothing',
  ],
};

const isIova = (e: Evidence): boolean =>
  address(e) >= IOVA_TOP || (IOVA_BELOW_4G <= address(e) && address(e) < FOUR_GIB);

/** Where no map is known: the upper GiB below 4 GiB, unless it is the kind of address that AMD's driver shows. */
const isMmio = (e: Evidence): boolean =>
  e.place?.host === 'unknown' && 3 * GIB <= address(e) && address(e) < FOUR_GIB && !/AMD-Vi/.test(e.event.text);

export const dmaCauses: readonly CauseRule[] = [
  ...attachmentCauses,
  beyondGuests,
  ...guestCauses,
  nullCause,
  ...rangeCauses,
  ...deviceCauses,
  ...addressCauses,
];
