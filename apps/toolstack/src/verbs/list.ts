// xl list [DOMAIN…]; with --json the raw figures.
import { formatXlList } from '#formats/xl-output';
import { domainList, findDomain, printed, type Verb } from './verb.ts';

export const list: Verb = async (xl, args) => {
  const names = args.filter((arg) => !arg.startsWith('-'));
  const infos =
    names.length === 0
      ? await domainList(xl)
      : await Promise.all(names.map((name) => findDomain(xl, name, 'list [Domain]')));
  return printed(args.includes('--json') ? `${JSON.stringify(infos)}\n` : formatXlList(infos));
};
