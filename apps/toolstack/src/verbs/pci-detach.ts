// xl pci-detach DOMAIN BDF: a device leaves a running guest, back to quarantine.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readPci } from './pci.ts';
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb } from './verb.ts';

const USAGE = 'pci-detach <Domain> <PCI_SPEC_STRING>';

export const pciDetach: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], USAGE);
  const pci = readPci(args[1], USAGE);
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`domain ${domid} was not built by this toolstack`);
  const result = await xl.domains.run('pciDetach', [managed.built, pciSbdf(pci)]);
  if (result.ok) managed.built = result.domain;
  return replyOf(result);
};
