// xl pci-assignable-remove BDF: the device goes back to dom0.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readPci } from './pci.ts';
import { replyOf } from './result.ts';
import type { Verb } from './verb.ts';

export const pciAssignableRemove: Verb = async (xl, args) => {
  const pci = readPci(args[0], 'pci-assignable-remove <PCI_SPEC_STRING>');
  return replyOf(await xl.domains.run('unmakeAssignable', [pciSbdf(pci)]));
};
