// Short boot logs, listings, configurations and fault lines of every style, made up: good ones, for tests that damage them.

const encode = (texts: readonly string[]): Uint8Array[] => texts.map((text) => new TextEncoder().encode(text));

const LINUX_LOG = `[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007bffffff] usable
[    0.000000] BIOS-e820: [mem 0x000000007c000000-0x000000007fffffff] type 20
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000027fffffff] usable
[    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved
[    0.061047] DMAR: RMRR base: 0x0000007c000000 end: 0x0000007c0fffff
`;

const OLD_LINUX_LOG = ` BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)
 BIOS-e820: 0000000000100000 - 00000000dffb0000 (usable)
 BIOS-e820: 00000000dffb0000 - 00000000dffbe000 (ACPI data)
 modified: 0000000000000000 - 0000000000010000 (reserved)
`;

const XEN_LOG = `(XEN) [    0.000001] EFI RAM map:
(XEN) [    0.000001]  [0000000000000000, 000000000009ffff] (usable)
(XEN) [    0.000001]  [0000000000100000, 00000000c60c3fff] (usable)
(XEN) [    0.000001]  [00000000dc000000, 00000000de1fffff] (reserved)
(XEN) [    0.000002] [VT-D]found ACPI_DMAR_RMRR:
(XEN) [    0.000002] [VT-D] endpoint: 0000:00:02.0
(XEN) [    0.000002] [VT-D]  RMRR: [dc000000,de1fffff]
`;

const OLD_XEN_LOG = `(XEN) Xen-e820 RAM map:
(XEN)  0000000000000000 - 0000000000058000 (usable)
(XEN)  0000000000100000 - 000000008648a000 (usable)
(XEN)  000000008648a000 - 000000008648b000 (ACPI NVS)
(XEN) [VT-D]  RMRR address range 8d800000..8fffffff not in reserved memory; need "iommu_inclusive_mapping=1"?
`;

const LISTING = `00:01.0 PCI bridge [0604]: Intel Corporation Root Port [8086:1901] (rev 03) (prog-if 00 [Normal decode])
	IOMMU group: 1
	Bus: primary=00, secondary=01, subordinate=03, sec-latency=0
	Memory behind bridge: 81600000-817fffff [size=2M] [32-bit]
	Prefetchable memory behind bridge: [disabled] [64-bit]
	Capabilities: [88] Express (v2) Root Port (Slot+), MSI 00
	Kernel driver in use: pcieport

01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GA102 [10de:2203] (rev a1)
	Subsystem: Micro-Star International Co., Ltd. [MSI] Device [1462:5091]
	IOMMU group: 1
	Region 0: Memory at 81000000 (32-bit, non-prefetchable) [size=16M]
	Region 1: Memory at 6000000000 (64-bit, prefetchable) [disabled] [size=32G]
	Region 3: Memory at <unassigned> (64-bit, prefetchable)
	Region 5: I/O ports at 5000 [size=128]
	Expansion ROM at 82000000 [disabled] [size=512K]
	Capabilities: [78] Express (v2) Legacy Endpoint, MSI 00
		DevCap:	MaxPayload 256 bytes, PhantFunc 0
			ExtTag+ AttnBtn- RBE+ FLReset+
		DevCtl:	CorrErr+ FLReset-
	Capabilities: [bb0 v1] Physical Resizable BAR
	Capabilities: [200 v1] Address Translation Service (ATS)
	Capabilities: [240 v1] Single Root I/O Virtualization (SR-IOV)
		Region 0: Memory at 0000004018000000 (64-bit, prefetchable)
	Kernel driver in use: vfio-pci
`;

const BRIEF_LISTING = `0000:01:00.0 3D controller: NVIDIA Corporation GP106M (rev a1)
	Flags: bus master, fast devsel, latency 0, IRQ 16, IOMMU group 14
	Memory at c0000000 (64-bit, prefetchable) [virtual] [size=256M]
	[virtual] Expansion ROM at 000c0000 [disabled] [size=128K]
	Capabilities: <access denied>
`;

const CONFIG = `name = "win7"
type = 'hvm'
memory = 4096
maxmem = 0x2000
pci = [ '01:00.0,permissive=1',
        '0000:03:00.0,rdm_policy=relaxed', ]  # both
rdm = "strategy=host,policy=relaxed"; mmio_hole = 2048
extra = "a\\\\b" # the end
`;

const FAULTS = `(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 7d0d6000
(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set on iommu:0
[   12.546923] DMAR: [DMA Read] Request device [02:00.0] PASID ffffffff fault addr 791dd000 [fault reason 02] Present bit in context entry is clear
nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000c address=0xffffc080 flags=0x0050]
(XEN) [VT-D] It's disallowed to assign 0000:00:1a.0 with shared RMRR at dbe9a000 for Dom19.
(XEN) p2m_pod_demand_populate: Dom9 out of PoD memory! (tot=1048605 ents=992 dom0)
`;

export const sampleLogs = encode([LINUX_LOG, OLD_LINUX_LOG, XEN_LOG, OLD_XEN_LOG]);
export const sampleListings = encode([LISTING, BRIEF_LISTING]);
export const sampleConfigs = encode([CONFIG]);
export const sampleFaults = encode([FAULTS]);
