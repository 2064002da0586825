// xl domid NAME, xl domname DOMID.
import { readArguments } from './arguments.ts';
import { domainList, printed, refused, type Verb } from './verb.ts';

export const domid: Verb = async (xl, args) => {
  const [name = ''] = readArguments('domid', args, 1).words;
  const found = (await domainList(xl)).find((info) => info.name === name);
  if (found) return printed(`${found.domid}\n`);
  return refused(`Can't get domid of domain name '${name}', maybe this domain does not exist.`);
};

export const domname: Verb = async (xl, args) => {
  const [text = ''] = readArguments('domname', args, 1).words;
  const number = Number.parseInt(text, 10);
  if (Number.isNaN(number)) return refused('Invalid domain id.\n\n');
  const found = (await domainList(xl)).find((info) => info.domid === number);
  if (found) return printed(`${found.name}\n`);
  return refused(`Can't get domain name of domain id '${number}', maybe this domain does not exist.`);
};
