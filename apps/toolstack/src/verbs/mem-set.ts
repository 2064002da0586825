// xl mem-set DOMAIN SIZE. Silent on success.
import { xlMessage } from '#formats/xl-output';
import { parseMemSizeKb } from './mem-size.ts';
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb, wrongArguments } from './verb.ts';

const USAGE = "mem-set <Domain> <MemMB['b'|'k'|'m'|'g'|'t']>";

export const memSet: Verb = async (xl, [domain, size]) => {
  const { domid } = await findDomain(xl, domain, USAGE);
  if (size === undefined) throw wrongArguments(USAGE);
  const kb = parseMemSizeKb(size);
  if (kb === null) return refused(xlMessage.invalidMemorySize(size));
  return replyOf(await xl.domains.run('memSet', [domid, kb, size]), '', true);
};
