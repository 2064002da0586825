// xl mem-max DOMAIN SIZE. Silent on success.
import { xlMessage } from '#formats/xl-output';
import { readArguments } from './arguments.ts';
import { parseMemSizeKb } from './mem-size.ts';
import { replyOf } from './result.ts';
import { findDomid, refused, type Verb } from './verb.ts';

export const memMax: Verb = async (xl, args) => {
  const [domain = '', size = ''] = readArguments('mem-max', args, 2).words;
  const domid = await findDomid(xl, domain);
  const kb = parseMemSizeKb(size);
  if (kb === null) return refused(xlMessage.invalidMemorySize(size));
  return replyOf(await xl.domains.run('memMax', [domid, kb, size]));
};
