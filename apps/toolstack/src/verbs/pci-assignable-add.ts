// xl pci-assignable-add BDF: the device leaves dom0 and waits, quarantined, for a guest.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readArguments } from './arguments.ts';
import { readBdf } from './pci.ts';
import { replyOf } from './result.ts';
import type { Verb } from './verb.ts';

const NAME = 'pci-assignable-add';

export const pciAssignableAdd: Verb = async (xl, args) => {
  const [bdf = ''] = readArguments(NAME, args, 1).words;
  return replyOf(await xl.domains.run('makeAssignable', [pciSbdf(readBdf(NAME, bdf))]));
};
