// xl pci-list DOMAIN: where its devices are in the guest, and which of the host's they are.
import { formatPciList } from '#formats/xl-output';
import { guestBus } from '#model/toolstack/emulated-bus';
import { readArguments } from './arguments.ts';
import { findDomid, printed, type Verb } from './verb.ts';

export const pciList: Verb = async (xl, args) => {
  const [name = ''] = readArguments('pci-list', args, 1).words;
  const managed = xl.domains.get(await findDomid(xl, name));
  // Without a device there is no PCI backend in xenstore, and no list to read.
  if (!managed || managed.built.devices.length === 0) return printed(formatPciList(null));
  const { build, devices } = managed.built;
  const passed = devices.flatMap(({ sbdf, pci }) => {
    const device = xl.config.host.devices.find((candidate) => candidate.sbdf === sbdf);
    return device ? [{ device, vdevfn: pci.vdevfn }] : [];
  });
  const { devfns } = guestBus(build, passed);
  return printed(formatPciList(passed.map(({ device }, i) => ({ vdevfn: devfns[i] ?? 0, sbdf: device.sbdf }))));
};
