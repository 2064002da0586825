// xl mem-max DOMAIN SIZE. Silent on success.
import { xlMessage } from '#formats/xl-output';
import { parseMemSizeKb } from './mem-size.ts';
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb, wrongArguments } from './verb.ts';

const USAGE = "mem-max <Domain> <MemMB['b'|'k'|'m'|'g'|'t']>";

export const memMax: Verb = async (xl, [domain, size]) => {
  const { domid } = await findDomain(xl, domain, USAGE);
  if (size === undefined) throw wrongArguments(USAGE);
  const kb = parseMemSizeKb(size);
  if (kb === null) return refused(xlMessage.invalidMemorySize(size));
  return replyOf(await xl.domains.run('memMax', [domid, kb, size]), '', true);
};
