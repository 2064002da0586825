// device-model DOMAIN BDF page GFN | device-model DOMAIN BDF bar INDEX: what a guest's QEMU would map over the reserved memory of a
// device. For the launcher; xl has no such verb.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readBdf } from './pci.ts';
import { replyOf } from './result.ts';
import { findDomid, type Verb, wrongArguments } from './verb.ts';

const USAGE = 'device-model <Domain> <BDF> page|bar <Number>';

export const deviceModel: Verb = async (xl, [domain, bdf, what, number]) => {
  const value = Number(number);
  if (domain === undefined || bdf === undefined || !Number.isSafeInteger(value) || value < 0)
    throw wrongArguments(USAGE);
  if (what !== 'page' && what !== 'bar') throw wrongArguments(USAGE);
  const overlay = what === 'page' ? { page: value } : { bar: value };
  const sbdf = pciSbdf(readBdf('device-model', bdf));
  return replyOf(await xl.domains.run('overlayReserved', [await findDomid(xl, domain), sbdf, overlay]));
};
