// xl pci-list DOMAIN: where its devices are in the guest, and which of the host's they are.
import { formatPciList } from '#formats/xl-output';
import { guestBus } from '#model/toolstack/emulated-bus';
import { findDomain, printed, type Verb } from './verb.ts';

export const pciList: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], 'pci-list <Domain>');
  const managed = xl.domains.get(domid);
  if (!managed) return printed(formatPciList([]));
  const { build, devices } = managed.built;
  const passed = devices.flatMap(({ sbdf, pci }) => {
    const device = xl.config.host.devices.find((candidate) => candidate.sbdf === sbdf);
    return device ? [{ device, vdevfn: pci.vdevfn }] : [];
  });
  const { devfns } = guestBus(build, passed);
  return printed(formatPciList(passed.map(({ device }, i) => ({ vdevfn: devfns[i] ?? 0, sbdf: device.sbdf }))));
};
