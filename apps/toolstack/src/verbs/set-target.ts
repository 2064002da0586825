// set-target DOMAIN TARGET: what libxl asks of Xen for a stub domain, so that it may act on the guest whose device model it is. For the
// launcher; xl has no such verb.
import { errnoName } from '#model/hypercall/errno';
import { EXIT_FAILURE, findDomid, printed, refused, type Verb, wrongArguments } from './verb.ts';

const USAGE = 'set-target <Domain> <Target>';

export const setTarget: Verb = async (xl, [domain, targetName]) => {
  if (domain === undefined || targetName === undefined) throw wrongArguments(USAGE);
  const domid = await findDomid(xl, domain);
  const target = await findDomid(xl, targetName);
  const { rc } = await xl.dom0.call({ op: 'set_target', domid, target });
  return rc === 0 ? printed('') : refused(`set-target: ${errnoName(rc)}`, EXIT_FAILURE);
};
