// xl list [-l] [DOMAIN]; with --json the raw figures.
import { formatXlList } from '#formats/xl-output';
import { helpOf, readArguments } from './arguments.ts';
import { longListing } from './long-listing.ts';
import { domainList, EXIT_FAILURE, findDomain, printed, type Verb } from './verb.ts';

export const list: Verb = async (xl, args) => {
  const { words, has } = readArguments('list', args, 0, { l: 'long', j: 'json' });
  const [name, ...more] = words;
  if (more.length > 0) return { exitCode: EXIT_FAILURE, stdout: helpOf('list'), stderr: '' };
  const infos = name === undefined ? await domainList(xl) : [await findDomain(xl, name)];
  if (has('j')) return printed(`${JSON.stringify(infos)}\n`);
  if (has('l')) return printed(longListing(infos, (domid) => xl.domains.get(domid)?.built ?? null));
  return printed(formatXlList(infos));
};
