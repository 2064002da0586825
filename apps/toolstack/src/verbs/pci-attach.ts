// xl pci-attach DOMAIN BDF: a device joins a running guest.
import { readPci } from './pci.ts';
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb } from './verb.ts';

const USAGE = 'pci-attach <Domain> <PCI_SPEC_STRING>';

export const pciAttach: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], USAGE);
  const pci = readPci(args[1], USAGE);
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`domain ${domid} was not built by this toolstack`);
  const result = await xl.domains.run('pciAttach', [managed.built, pci]);
  if (result.ok) managed.built = result.domain;
  return replyOf(result);
};
