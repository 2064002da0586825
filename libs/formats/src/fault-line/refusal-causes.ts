// What stands behind a refusal to give a device to somebody, printed by Xen, Linux, QEMU or a toolstack. One rule a kind of line.
import type { CauseRule, Evidence } from './cause.ts';
import type { FaultKind } from './fault-event.ts';

/** Xen's own domain that holds devices in quarantine, 0x7FF1. */
const DOMID_IO = 32753;

/** As Xen's public errno.h; Linux has the same ones. */
const errnos: Readonly<Record<number, string>> = {
  1: 'EPERM: an RMRR that several devices share, under the strict policy',
  12: 'ENOMEM: no memory for the tables',
  16: 'EBUSY: another domain has it, or guest memory is where its reserved range must go',
  18: 'EXDEV: the domain has populate-on-demand, shared or logged memory, which no device may meet',
  19: 'ENODEV: Xen does not know such a device',
  22: 'EINVAL: not a device that can be assigned, or the domain is going away',
  95: 'EOPNOTSUPP: the domain was created without an IOMMU',
  98: 'EADDRINUSE: its reserved range overlaps one that the domain has already',
};

const device = ({ event }: Evidence): string => event.device ?? 'the device';
const at = ({ event }: Evidence): string => (event.address === null ? '' : ` at ${event.address.toString(16)}`);

const frame = ({ event }: Evidence, name: 'dfn' | 'mfn'): string => (event.figures[name] ?? 0).toString(16);

/** Of the IOMMU's tables; those of an assignment mean something else. */
const tableErrnos: Readonly<Record<number, string>> = {
  5: '-5, EIO: the unit did not answer',
  12: '-12, ENOMEM: no memory for a table page',
  22: '-22, EINVAL: no frame that can be in the tables',
  110: '-110, ETIMEDOUT: the unit or a device did not answer in time',
};

const tableErrno = ({ event: { figures } }: Evidence): string =>
  tableErrnos[Math.abs(figures.errno ?? 0)] ?? `error ${figures.errno}`;

const crashed = ({ event: { domain } }: Evidence): string =>
  domain === 0
    ? 'Domain 0 goes on; its device may fault there'
    : `Xen ends domain ${domain ?? '?'}, since its devices would see other memory than its CPUs`;

const MEMORY_OF_TABLES = [
  'with ENOMEM: free memory on the host (xl info free_memory); splitting a superpage needs a table page',
  'else a fault of the hypervisor: take the whole xl dmesg',
];

const refusal = (
  code: string,
  text: CauseRule['text'],
  remedies: readonly string[] | CauseRule['remedies'],
): CauseRule => ({
  code,
  when: () => true,
  text,
  remedies: typeof remedies === 'function' ? remedies : () => remedies,
});

const SHARED_RMRR_REMEDIES = [
  "rdm_policy=relaxed on the device's line in pci=, if you trust what the devices of the range could do to each other",
  'give all devices of the range to the same guest, or turn one off in firmware (for USB: xHCI only, or EHCI only)',
];

const ineligible = refusal(
  'VFIO-RMRR',
  (e) =>
    `the DMAR table names an RMRR for ${device(e)}: its firmware or the board's management uses that memory, so Linux does not let another domain have the device`,
  [
    'on HPE servers: take the slot out of the firmware’s shared memory reporting with HPE’s conrep utility',
    'a kernel with relaxable RMRRs only where the platform’s vendor says the device does not use the range any more',
  ],
);

const direct = refusal(
  'VFIO-DIRECT-MAP',
  (e) =>
    `the firmware's table (IVRS on AMD: an IVMD; DMAR on Intel: an RMRR) asks for a 1:1 mapping for ${device(e)}, which a guest's mappings cannot keep, so vfio refuses the device`,
  [
    'a firmware update: tables with such entries for every device are a known mistake of some boards',
    'hostloom inspect ivrs FILE shows which entry it is and which devices it covers',
  ],
);

export const refusalCauses: Partial<Readonly<Record<FaultKind, CauseRule>>> = {
  'rmrr-shared': refusal(
    'SHARED-RMRR-REFUSED',
    (e) => {
      const who =
        e.event.domain === DOMID_IO ? ' (Dom32753 is Xen’s quarantine: the device was being made assignable)' : '';
      const risky = e.event.text.includes('risky');
      const outcome = risky
        ? 'Xen warns, since the policy is relaxed'
        : 'Xen refuses it, since the policy is strict (-1, EPERM)';
      return `the reserved range (RMRR)${at(e)} is shared: firmware names ${device(e)} and at least one more device for it, so whoever has one could write what the other uses; ${outcome}${who}`;
    },
    SHARED_RMRR_REMEDIES,
  ),
  'assign-failed': refusal(
    'ASSIGN-FAILED',
    (e) => {
      const errno = Math.abs(e.event.figures.errno ?? 0);
      const why = errnos[errno];
      if (why !== undefined) return `Xen did not give ${device(e)} to the domain: ${why}`;
      return `Xen did not give the device to the domain${e.event.detail === null ? '' : `: ${e.event.detail}`}; the reason is in xl dmesg, in the lines above this one`;
    },
    ['read the lines right above it in xl dmesg', 'hostloom preflight tells before the attempt'],
  ),
  'toolstack-permission': refusal(
    'SHARED-RMRR-REFUSED',
    (e) =>
      `Xen answered "operation not permitted" for ${device(e)}: its reserved range (RMRR) is shared with another device; xl dmesg has the line "disallowed to assign … with shared RMRR"`,
    SHARED_RMRR_REMEDIES,
  ),
  'iommu-map-failed': refusal(
    'IOMMU-MAP-FAILED',
    (e) =>
      `Xen could not map device frame ${frame(e, 'dfn')} to machine frame ${frame(e, 'mfn')}: ${tableErrno(e)}. ${crashed(e)}`,
    MEMORY_OF_TABLES,
  ),
  'iommu-unmap-failed': refusal(
    'IOMMU-UNMAP-FAILED',
    (e) =>
      `Xen could not take device frame ${frame(e, 'dfn')} out of the IOMMU's tables: ${tableErrno(e)}; devices could still reach the page. ${crashed(e)}`,
    MEMORY_OF_TABLES,
  ),
  'iommu-flush-failed': refusal(
    'IOMMU-FLUSH-FAILED',
    (e) =>
      `the IOMMU did not forget what it held of ${e.event.figures.dfn === undefined ? 'the domain' : `device frame ${frame(e, 'dfn')}`} (${tableErrno(e)}): a device could go on using a page that is no longer the domain's. ${crashed(e)}`,
    [
      'look for an invalidation time-out in the lines before: a device that hangs or is gone',
      'ats=0 on Xen’s command line',
    ],
  ),
  'no-reset': refusal(
    'NO-RESET',
    () =>
      'the toolstack found no way to reset the device (no FLR, no power management reset, no bus reset of its own). It is printed as well when Xen refused the device for another reason, such as a shared RMRR, and hides that',
    [
      'look in xl dmesg for "disallowed to assign" or "failed ("',
      'if only the reset is missing: strict reset off (Qubes: -o no-strict-reset=True)',
    ],
  ),
  'not-assignable': refusal(
    'NOT-ASSIGNABLE',
    (e) =>
      `${device(e)} was not made assignable: it is not bound to xen-pciback, so libxl does not take it, and creation fails`,
    [
      'xl pci-assignable-add BDF before, or xen-pciback.hide=(BDF) on dom0’s command line',
      'seize=1 on the device’s line in pci=',
    ],
  ),
  'already-assigned': refusal('ALREADY-ASSIGNED', (e) => `${device(e)} is with another guest`, [
    'xl pci-list of the other guests; xl pci-detach there',
  ]),
  'no-iommu': refusal(
    'NO-IOMMU',
    () =>
      'Xen runs without an IOMMU: none in the machine, off in firmware, or turned off because its table could not be parsed',
    ['VT-d or AMD-Vi on in firmware', 'xl dmesg | grep -i -e dmar -e amd-vi -e "i/o virt"'],
  ),
  'pod-with-passthrough': refusal(
    'POD-WITH-PASSTHROUGH',
    () =>
      'memory is below maxmem, so the guest would be populated on demand; a passed-through device cannot wait for that (its access is not replayed), so libxl refuses the two together',
    ['set memory equal to maxmem'],
  ),
  'rdm-conflict': refusal(
    'RDM-CONFLICT',
    (e) =>
      `the guest's own memory would lie over a reserved range (RMRR)${at(e)}: below rdm_mem_boundary nothing is moved away for it; strict refuses, relaxed goes on and hides the conflict`,
    [
      'lower rdm_mem_boundary below the range, or mmio_hole so large that guest RAM ends below it',
      'rdm_policy=relaxed if the device does not use the range',
      'hostloom preflight finds the smallest change',
    ],
  ),
  'rmrr-ineligible': ineligible,
  'direct-map-required': direct,
  'container-refused': refusal(
    'VFIO-RMRR',
    (e) =>
      e.event.detail?.startsWith('Operation not permitted') === true
        ? 'QEMU could not attach the device’s IOMMU domain: "not permitted" is what it gets when Linux refuses the device for its RMRR (the kernel’s log says "ineligible for IOMMU domain attach") or for lack of interrupt remapping'
        : `QEMU could not set up the device’s IOMMU domain${e.event.detail === null ? '' : ` (${e.event.detail})`}`,
    [
      'dmesg | grep -e ineligible -e "No interrupt remapping"',
      'see the vendor’s way of taking the RMRR away (HPE: conrep)',
    ],
  ),
  'group-not-viable': refusal(
    'GROUP-NOT-VIABLE',
    () =>
      'other devices of the same IOMMU group still have host drivers: they could write where the guest’s device reads',
    ['bind all devices of the group to vfio-pci', 'another slot, whose root port keeps its devices apart (ACS)'],
  ),
  'identity-map-refused': refusal(
    'RMRR-OCCUPIED',
    (e) =>
      `the guest has something of its own where the device's reserved range must be mapped one to one${e.event.figures.gfn === undefined ? '' : ` (guest frame ${e.event.figures.gfn.toString(16)})`}: the device was plugged in after the guest was built, or its policy did not keep the range free`,
    [
      'give the device at creation, or rdm="strategy=host" so that all ranges are kept free',
      'rdm_policy=relaxed lets it pass unmapped',
    ],
  ),
};
