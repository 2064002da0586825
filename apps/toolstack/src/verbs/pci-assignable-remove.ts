// xl pci-assignable-remove BDF: the device goes back to dom0. (-r: dom0 has no driver to give it back to here.)
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readArguments } from './arguments.ts';
import { readBdf } from './pci.ts';
import { replyOf } from './result.ts';
import type { Verb } from './verb.ts';

const NAME = 'pci-assignable-remove';

export const pciAssignableRemove: Verb = async (xl, args) => {
  const [bdf = ''] = readArguments(NAME, args, 1, { r: 'rebind' }).words;
  return replyOf(await xl.domains.run('unmakeAssignable', [pciSbdf(readBdf(NAME, bdf, "'"))]));
};
