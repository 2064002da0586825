// xl pci-assignable-add BDF: the device leaves dom0 and waits, quarantined, for a guest.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readPci } from './pci.ts';
import { replyOf } from './result.ts';
import type { Verb } from './verb.ts';

export const pciAssignableAdd: Verb = async (xl, args) => {
  const pci = readPci(args[0], 'pci-assignable-add <PCI_SPEC_STRING>');
  return replyOf(await xl.domains.run('makeAssignable', [pciSbdf(pci)]));
};
