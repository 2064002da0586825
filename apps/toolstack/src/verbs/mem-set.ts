// xl mem-set DOMAIN SIZE. Silent on success.
import { xlMessage } from '#formats/xl-output';
import { readArguments } from './arguments.ts';
import { parseMemSizeKb } from './mem-size.ts';
import { replyOf } from './result.ts';
import { findDomid, refused, type Verb } from './verb.ts';

export const memSet: Verb = async (xl, args) => {
  const [domain = '', size = ''] = readArguments('mem-set', args, 2).words;
  const domid = await findDomid(xl, domain);
  const kb = parseMemSizeKb(size);
  if (kb === null) return refused(xlMessage.invalidMemorySize(size));
  return replyOf(await xl.domains.run('memSet', [domid, kb, size]));
};
