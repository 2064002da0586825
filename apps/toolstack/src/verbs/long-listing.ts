// `xl list -l`: each domain's configuration as JSON, under libxl's names for its fields, as far as this toolstack has them.
import type { DomainInfo } from '#model/hypercall/calls';
import type { BuiltDomain } from '#model/toolstack/built-domain';

const KB_PER_PAGE = 4;
const defbool = (on: boolean): string => (on ? 'True' : 'False');

/** A domain that this toolstack did not build (dom0): what the hypervisor knows of it. */
function bareConfig({ name, totPages, onlineVcpus }: DomainInfo): object {
  return {
    c_info: { type: 'pvh', name },
    b_info: { max_vcpus: onlineVcpus, target_memkb: totPages * KB_PER_PAGE },
  };
}

function configOf({ build, devices }: BuiltDomain): object {
  const { config } = build;
  const hvm = {
    bios: build.bios,
    acpi: defbool(config.acpi),
    mmio_hole_memkb: config.mmioHoleMemkb,
    vga: { kind: build.vga },
    rdm: build.rdm,
    rdm_mem_boundary_memkb: build.rdmMemBoundaryMemkb,
  };
  return {
    c_info: { type: config.type, hap: defbool(build.hap), name: config.name, passthrough: build.passthrough },
    b_info: {
      max_vcpus: config.maxVcpus,
      avail_vcpus: Array.from({ length: config.vcpus }, (_, i) => i),
      max_memkb: build.maxMemkb,
      target_memkb: build.targetMemkb,
      video_memkb: build.videoMemkb,
      shadow_memkb: build.shadowMemkb,
      iommu_memkb: build.iommuMemkb,
      claim_mode: defbool(build.claimMode),
      ...(config.type === 'hvm' ? { 'type.hvm': hvm } : {}),
    },
    pcidevs: devices.map(({ pci }) => ({
      func: pci.func,
      dev: pci.dev,
      bus: pci.bus,
      domain: pci.domain,
      vdevfn: pci.vdevfn,
      seize: pci.seize,
      rdm_policy: pci.rdmPolicy === 'invalid' ? 'strict' : pci.rdmPolicy,
    })),
    on_poweroff: config.onPoweroff,
    on_reboot: config.onReboot,
    on_crash: config.onCrash,
  };
}

export function longListing(infos: readonly DomainInfo[], builtOf: (domid: number) => BuiltDomain | null): string {
  const rows = infos.map((info) => {
    const built = builtOf(info.domid);
    return { domid: info.domid, config: built ? configOf(built) : bareConfig(info) };
  });
  return `${JSON.stringify(rows, null, 4)}\n`;
}
