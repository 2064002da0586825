// xl destroy DOMAIN.
import { readArguments } from './arguments.ts';
import { replyOf } from './result.ts';
import { findDomid, refused, type Verb } from './verb.ts';

const DOM0_STAYS =
  'Not destroying domain 0; use -f to force.\n' +
  'This can only be done when using a disaggregated hardware domain and toolstack.\n\n';

export const destroy: Verb = async (xl, args) => {
  const [name = ''] = readArguments('destroy', args, 1).words;
  const domid = await findDomid(xl, name);
  return domid === 0 ? refused(DOM0_STAYS) : replyOf(await xl.domains.destroy(domid));
};
