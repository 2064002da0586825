// xl destroy DOMAIN.
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb } from './verb.ts';

export const destroy: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], 'destroy <Domain>');
  if (domid === 0) return refused('Cannot destroy privileged domain 0.');
  return replyOf(await xl.domains.destroy(domid));
};
