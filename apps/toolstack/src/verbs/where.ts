// where DOMAIN: which process runs a domain's kernel, as JSON. For the launcher; xl has no such verb.
import { findDomain, printed, refused, type Verb, wrongArguments } from './verb.ts';

export const where: Verb = async (xl, args) => {
  const [name] = args;
  if (name === undefined) throw wrongArguments('where <Domain>');
  const { domid } = await findDomain(xl, name);
  const placed = xl.placement.placed(domid);
  return placed ? printed(`${JSON.stringify(placed)}\n`) : refused(`domain ${domid} has no guest process`);
};
