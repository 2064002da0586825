// xl claims: the list of domains with what each has claimed and not yet got.
import { formatXlClaims } from '#formats/xl-output';
import { readArguments } from './arguments.ts';
import { domainList, printed, type Verb } from './verb.ts';

export const claims: Verb = async (xl, args) => {
  readArguments('claims', args, 0);
  const stderr = xl.config.knobs.claimMode ? '' : 'claim_mode not enabled (see man xl.conf).\n';
  return { ...printed(formatXlClaims(await domainList(xl))), stderr };
};
