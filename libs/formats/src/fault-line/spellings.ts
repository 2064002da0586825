// How Xen, Linux, QEMU and the toolstacks spell faults and refusals, over the years: one pattern each. Named groups carry the
// figures; which group means what is fault-line.ts's. Knows no cause.
import type { FaultKind, Reporter } from './fault-event.ts';

export interface Spelling {
  readonly kind: FaultKind;
  readonly by: Reporter;
  readonly pattern: RegExp;
}

const SBDF = '(?<device>(?:[0-9a-f]{1,8}:)?[0-9a-f]{1,2}:[0-9a-f]{1,2}\\.[0-7])';
const RANGE = '(?:0x)?(?<base>[0-9a-f]{1,16})(?:\\.\\.|-|, ?)(?:0x)?(?<limit>[0-9a-f]{1,16})';
const ADDRESS = '(?:0x)?(?<address>[0-9a-f]{1,16})';

const spelling = (kind: FaultKind, by: Reporter, pattern: string): Spelling => ({
  kind,
  by,
  pattern: new RegExp(pattern, 'i'),
});

/** More exact ones first. */
export const spellings: readonly Spelling[] = [
  // VT-d faults. Xen names the segment, Linux does not; Linux prints a decimal reason before 5.17, 0x and hexadecimal since.
  spelling(
    'dma-fault',
    'Xen',
    `\\[VT-D\\]DMAR: ?\\[DMA (?<access>Read|Write)\\] Request device \\[${SBDF}\\] fault addr ${ADDRESS}`,
  ),
  spelling(
    'dma-fault',
    'Linux',
    `DMAR: ?\\[DMA (?<access>Read|Write)[^\\]]*\\] Request device \\[?${SBDF}\\]? (?:PASID \\w+ )?fault addr ${ADDRESS}`,
  ),
  spelling('dma-fault', 'a report', `DMA PTE (?<access>read|write) faults? at (?:address )?${ADDRESS}`),
  spelling(
    'interrupt-fault',
    'Xen',
    `\\[VT-D\\]INTR-REMAP: ?(?:Request device \\[${SBDF}\\] fault index (?:0x)?(?<index>[0-9a-f]+)|reason (?<reason>[0-9a-f]{2}) - (?<detail>.*))`,
  ),
  spelling(
    'interrupt-fault',
    'Linux',
    `\\[INTR-REMAP\\] Request device \\[?${SBDF}\\]?.*?fault index (?:0x)?(?<index>[0-9a-f]+)`,
  ),
  spelling('interrupt-fault', 'Linux', 'INTR-REMAP:? ?\\[fault reason (?<reason>(?:0x)?[0-9a-f]+)\\] ?(?<detail>.*)'),
  spelling('fault-reason', 'Xen', '\\[VT-D\\]DMAR: ?reason (?<reason>[0-9a-f]{2}) - (?<detail>.*)'),
  spelling('fault-reason', 'Linux', 'DMAR: ?\\[fault reason (?<reason>(?:0x)?[0-9a-f]+)\\] ?(?<detail>.*)'),
  // AMD-Vi.
  spelling(
    'dma-fault',
    'Linux',
    `${SBDF}: AMD-Vi: Event logged \\[IO_PAGE_FAULT domain=(?:0x)?(?<domid>[0-9a-f]+) address=${ADDRESS} flags=(?:0x)?(?<amdFlags>[0-9a-f]+)`,
  ),
  spelling(
    'dma-fault',
    'Linux',
    `AMD-Vi: Event logged \\[IO_PAGE_FAULT device=${SBDF} (?:pasid=\\w+ )?domain=(?:0x)?(?<domid>[0-9a-f]+) address=${ADDRESS} flags=(?:0x)?(?<amdFlags>[0-9a-f]+)`,
  ),
  spelling(
    'dma-fault',
    'Xen',
    `AMD-Vi: IO_PAGE_FAULT: ${SBDF} d(?<domain>\\d+) addr ${ADDRESS} flags (?:0x)?(?<amdFlags>[0-9a-f]+)`,
  ),
  spelling(
    'dma-fault',
    'Xen',
    `AMD-Vi: IO_PAGE_FAULT: domain ?= ?(?<domain>\\d+), device id ?= ?(?:0x)?(?<deviceId>[0-9a-f]+), fault address ?= ?${ADDRESS}, flags ?= ?(?:0x)?(?<amdFlags>[0-9a-f]+)`,
  ),
  spelling(
    'iommu-timeout',
    'Linux',
    `AMD-Vi: Completion-Wait loop timed out|Event logged \\[IOTLB_INV_TIMEOUT device=${SBDF}`,
  ),
  spelling(
    'iommu-timeout',
    'Linux',
    'VT-d detected Invalidation (?<detail>\\S+) Error|Invalidation (?<detail2>Time-out Error|Queue Error)|Queue invalidate wait descriptor timed out',
  ),
  spelling('iommu-event', 'Linux', `AMD-Vi: Event logged \\[(?<detail>[A-Z_]+)(?: device=${SBDF})?`),
  // The table and its reserved regions, at boot.
  spelling('rmrr-not-reserved', 'Xen', `RMRR address range ${RANGE} not in reserved memory`),
  spelling('rmrr-not-reserved', 'Xen', `RMRR: \\[${RANGE}\\] is not \\(entirely\\) in reserved memory`),
  spelling('rmrr-not-reserved', 'Xen', `RMRR: page at ${ADDRESS} couldn't be reserved`),
  spelling('rmrr-not-reserved', 'Linux', `No firmware reserved region can cover this RMRR \\[${RANGE}\\]`),
  spelling('rmrr-bad', 'Linux', `BIOS is broken; bad RMRR \\[${RANGE}\\]`),
  spelling('rmrr-bad', 'Linux', 'RMRR (?:ends before it starts|entry ends before)'),
  spelling('rmrr-bad', 'Xen', `RMRR [[(]${RANGE}[\\])] is incorrect`),
  spelling('rmrr-overlap', 'Xen', `Overlapping RMRRs \\[${RANGE}\\]`),
  spelling(
    'rmrr-ignored',
    'Xen',
    `Ignore (?:the )?RMRR [[(]${RANGE}[\\])]|Non-existent device \\(${SBDF}\\) is reported in (?:this )?RMRR`,
  ),
  spelling('rmrr-scope-broken', 'Linux', `RMRR entry for device ${SBDF} is broken`),
  spelling('rmrr-relaxed', 'Linux', 'assuming all RMRRs are relaxable'),
  spelling('rmrr-listed', 'Linux', 'RMRR base: (?:0x)?(?<base>[0-9a-f]+) end: (?:0x)?(?<limit>[0-9a-f]+)'),
  spelling(
    'rmrr-listed',
    'Xen',
    `RMRR: \\[${RANGE}\\]|RMRR region: base_addr\\w* (?<base2>[0-9a-f]+) end_addr\\w* (?<limit2>[0-9a-f]+)`,
  ),
  spelling(
    'dmar-broken',
    'Linux',
    `BIOS is broken; DMAR reported at address (?:0x)?(?<register>[0-9a-f]+)(?<detail> returns all ones)?`,
  ),
  spelling('dmar-broken', 'Xen', 'Failed to parse ACPI DMAR'),
  spelling(
    'dmar-broken',
    'Linux',
    'DMAR:.*(?<detail>Invalid 0-length structure|No DMAR devices found|Unable to map DMAR|BIOS has allocated no shadow GTT)',
  ),
  spelling(
    'stale-tables',
    'Linux',
    'DMAR:.*(?:Translation (?:is|was|already) enabled|copy translation|Copied translation|Failed to copy translation)',
  ),
  spelling(
    'faults-suppressed',
    'Linux',
    'dmar_fault: (?<count>\\d+) callbacks suppressed|DRHD: handling fault status reg (?<status>[0-9a-f]+)',
  ),
  // Giving a device to somebody.
  spelling(
    'rmrr-shared',
    'Xen',
    `It's (?:disallowed|risky) to assign ${SBDF} with shared RMRR at ${ADDRESS} for (?:Dom|d)(?<domain>\\d+|\\[IO\\])`,
  ),
  spelling(
    'assign-failed',
    'Xen',
    `(?:d(?<domain>\\d+|\\[IO\\]): |deassign_device: |XEN_DOMCTL_assign_device: )?(?:re)?assign (?:\\(${SBDF}\\)|(?<device2>[0-9a-f:.]+) to dom(?<domain2>\\d+)) failed \\((?<errno>-?\\d+)\\)`,
  ),
  spelling(
    'identity-map-refused',
    'Xen',
    `Cannot setup identity map d(?<domain>\\d+):(?<gfn>[0-9a-f]+), gfn already mapped to (?<mfn>[0-9a-f]+)`,
  ),
  spelling(
    'identity-map-refused',
    'Xen',
    `d(?<domain>\\d+): cannot (?:un)?map reserved region \\[${RANGE}\\]: (?<errno>-?\\d+)`,
  ),
  spelling(
    'iommu-map-failed',
    'Xen',
    'd(?<domain>\\d+): IOMMU mapping dfn (?<dfn>[0-9a-f]+) to mfn (?<mfn>[0-9a-f]+) failed: (?<errno>-?\\d+)',
  ),
  spelling(
    'iommu-unmap-failed',
    'Xen',
    'd(?<domain>\\d+): IOMMU unmapping dfn (?<dfn>[0-9a-f]+) failed: (?<errno>-?\\d+)',
  ),
  spelling(
    'iommu-flush-failed',
    'Xen',
    'd(?<domain>\\d+): IOMMU IOTLB flush failed: (?<errno>-?\\d+)(?:, dfn (?<dfn>[0-9a-f]+), page count (?<pages>\\d+) flags (?<flags>[0-9a-f]+))?',
  ),
  spelling(
    'rmrr-ineligible',
    'Linux',
    `${SBDF}: (?:DMAR: )?Device is ineligible for IOMMU domain attach due to platform RMRR requirement`,
  ),
  spelling('direct-map-required', 'Linux', `${SBDF}: Firmware has requested this device have a 1:1 IOMMU mapping`),
  spelling('group-not-viable', 'QEMU', 'group (?<group>\\d+) is not viable'),
  spelling('container-refused', 'QEMU', 'failed to set ?iommu for container: (?<detail>.*)'),
  spelling('container-refused', 'QEMU', 'VFIO_MAP_DMA[^:]*: (?<detail>.*)|vfio_dma_map\\(.*\\) = (?<errno>-\\d+)'),
  spelling(
    'pod-with-passthrough',
    'libxl',
    'IOMMU required for device passthrough but not supported together with PoD',
  ),
  spelling('not-assignable', 'libxl', `(?:Domain (?<domain>\\d+):)?PCI device ${SBDF} is not assignable`),
  spelling('already-assigned', 'libxl', `PCI device ${SBDF} already assigned to a different guest`),
  spelling(
    'no-iommu',
    'libxl',
    `PCI device ${SBDF} cannot be assigned - no IOMMU|passthrough not supported on this platform`,
  ),
  spelling('rdm-conflict', 'libxl', `(?:Ignoring )?RDM conflict at ${ADDRESS}|checking reserved device memory failed`),
  spelling('rdm-conflict', 'hvmloader', 'Fail to setup memory map due to conflict on dynamic reserved memory range'),
  spelling('assign-failed', 'libxl', 'xc_assign_device failed(?:: (?<detail>.*))?'),
  spelling(
    'no-reset',
    'libvirt',
    `Unable to reset PCI device (?:${SBDF})?|The kernel doesn't support reset from sysfs for PCI device ${SBDF.replace('device', 'device2')}`,
  ),
  spelling(
    'toolstack-permission',
    'XAPI',
    `Cannot_add\\(${SBDF}, ?Xenctrlext\\.Unix_error\\((?<errno>\\d+), "(?<detail>[^"]*)`,
  ),
  // Memory.
  spelling(
    'pod-exhausted',
    'Xen',
    '(?<detail>\\w+): (?:Dom|d)(?<domain>\\d+) out of PoD memory! ?\\(tot=(?<tot>\\d+) ents=(?<ents>\\d+)(?: dom(?<running>\\d+))?\\)',
  ),
  spelling(
    'pod-cache',
    'Xen',
    'Unable to allocate page for PoD cache \\(target=(?<target>\\d+) cache=(?<cache>\\d+)\\)',
  ),
  spelling('over-allocation', 'Xen', 'Over-allocation for (?:domain |d)(?<domain>\\d+): (?<want>\\d+) > (?<max>\\d+)'),
  spelling(
    'out-of-memory',
    'libxl',
    'Could not allocate memory|failed to allocate memory|not enough (?:free )?memory|xc_domain_populate_physmap.*failed',
  ),
  spelling(
    'domain-crash',
    'Xen',
    'domain_crash called from (?<detail>\\S+)|Domain (?<domain>\\d+) \\(vcpu#\\d+\\) crashed on cpu#\\d+|Domain (?<domain2>\\d+) reported crashed by domain \\d+',
  ),
  // What becomes visible in the guest or in a driver.
  spelling('bar-not-claimed', 'Linux', `(?:${SBDF}: )?Could not claim resource .*Device offline`),
  spelling('window-avoids-e820', 'Linux', `avoiding allocation from e820 entry \\[mem ${RANGE}\\]`),
  spelling(
    'bar-no-space',
    'hvmloader',
    'pci dev (?<slot>[0-9a-f]{2}:[0-7]) bar (?<bar>[0-9a-f]+) size .*: no space for resource',
  ),
  spelling('bar-no-space', 'hvmloader', 'Low MMIO hole not large enough for all devices'),
  spelling(
    'bar-no-space',
    'Linux',
    `${SBDF}: (?:BAR (?<bar>\\d+)[^:]*: (?:no space for|failed to assign|can't assign)|can't claim BAR (?<bar2>\\d+))`,
  ),
  spelling(
    'device-init-failed',
    'Linux',
    `(?<detail>[\\w-]+) ${SBDF}: (?:Init cmd return status FAILED|init failed|probe failed|Fatal error during GPU init|failed to initiali[sz]e)`,
  ),
];
