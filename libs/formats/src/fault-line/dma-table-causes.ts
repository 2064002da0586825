// Why a device's access failed before any page was looked at, or because of what stands in the tables themselves: the causes that
// the VT-d fault reason decides alone (VT-d specification, table of fault reasons).
import type { CauseRule, Evidence } from './cause.ts';
import { isIntegratedGraphics } from './device-hints.ts';

const hex = (value: number | null): string => (value === null ? '?' : value.toString(16));
const device = ({ event }: Evidence): string => event.device ?? 'the device';

/** 1 root entry, 2 context entry, 3 context entry wrong, 0Dh the entry blocks. */
const ABSENT = new Set([1, 2, 3, 13]);
const BEYOND_MGAW = 4;
const RESERVED_BITS = new Set([10, 11, 12]);
const BAD_TABLES = new Set([7, 8, 9]);
const EARLY_SECONDS = 5;

const absent = ({ event }: Evidence): boolean => event.reason !== null && ABSENT.has(event.reason);

export const attachmentCauses: readonly CauseRule[] = [
  {
    code: 'BOOT-HANDOVER',
    when: (e) =>
      absent(e) &&
      isIntegratedGraphics(e) &&
      (e.event.reason === 1 || (e.event.uptime ?? EARLY_SECONDS) < EARLY_SECONDS),
    text: (e) =>
      `translation was switched on while the display still scans out the framebuffer that firmware left it (${e.event.wideAddress ?? hex(e.event.address)}), before its driver attached it to any table`,
    remedies: () => [
      'harmless: it ends when the driver takes the display over',
      'firmware that names the framebuffer as an RMRR avoids it',
    ],
  },
  {
    code: 'DEVICE-WITHOUT-TABLES',
    when: (e) => absent(e) && isIntegratedGraphics(e),
    text: () =>
      'the integrated graphics was taken from the host (for vfio or a guest) while the host still has its display on it: it goes on accessing memory, and no table is attached to it at that moment',
    remedies: () => [
      'keep the host off it: no framebuffer console and no driver (video=efifb:off, or bind vfio-pci/pciback at boot)',
      'another graphics device for the host',
    ],
  },
  {
    code: 'STALE-DMA',
    when: (e) => absent(e) && e.event.by === 'Linux',
    text: (e) =>
      `${device(e)} is attached to no table at this moment, and still runs: transfers started before (by firmware, by the kernel before a kexec or crash, or while the kernel switches its default domain at boot)`,
    remedies: () => ['harmless once the driver resets the device', 'for a crash kernel: a driver that resets at start'],
  },
  {
    code: 'NOT-ASSIGNED',
    when: absent,
    text: (e) =>
      `${device(e)} belongs to nobody who mapped memory for it: it is quarantined after a guest (or before one), or was never given to a domain, and it still runs`,
    remedies: () => [
      'reset it before it changes hands',
      'iommu=quarantine=scratch-page on Xen’s command line takes such accesses without faults',
    ],
  },
  {
    code: 'BEYOND-MGAW',
    when: ({ event }) => event.reason === BEYOND_MGAW,
    text: (e) =>
      `${e.event.wideAddress ?? hex(e.event.address)} is wider than this IOMMU can translate (${addressBits(e)} bits needed; its guest address width is smaller): the device lost its address mask or state, as after a reset, or its driver never had it`,
    remedies: () => [
      'look at the driver’s DMA mask and reset path',
      'iommu=pt if the device is the host’s own and trusted',
    ],
  },
  {
    code: 'RESERVED-BITS',
    when: ({ event }) => event.reason !== null && RESERVED_BITS.has(event.reason),
    text: (e) =>
      `the entry for ${e.event.wideAddress ?? hex(e.event.address)} has bits set that this hardware does not know: most often a superpage entry on a unit that has no superpages, or another size (a quirk of the first VT-d generations)`,
    remedies: () => [
      'without superpages: intel_iommu=sp_off with Linux, iommu=no-superpages with Xen',
      'a kernel or Xen that reads the unit’s capability',
    ],
  },
  {
    code: 'TABLE-DAMAGED',
    when: ({ event }) => event.reason !== null && BAD_TABLES.has(event.reason),
    text: () =>
      'a pointer in the root, context or page tables leads nowhere: the tables were freed, overwritten or never written back',
    remedies: () => ['a hypervisor or kernel fault: take the whole log; XSA-321 and XSA-346 were of this kind'],
  },
];

const addressBits = ({ event }: Evidence): number =>
  event.wideAddress === null
    ? Math.max(1, Math.ceil(Math.log2((event.address ?? 0) + 1)))
    : BigInt(`0x${event.wideAddress}`).toString(2).length;
