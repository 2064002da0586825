// xl pci-attach DOMAIN BDF: a device joins a running guest.
import { readArguments } from './arguments.ts';
import { readPciSpec } from './pci.ts';
import { replyOf } from './result.ts';
import { findDomid, refused, type Verb } from './verb.ts';

const NAME = 'pci-attach';

export const pciAttach: Verb = async (xl, args) => {
  const [domain = '', text = ''] = readArguments(NAME, args, 2).words;
  const domid = await findDomid(xl, domain);
  const pci = readPciSpec(NAME, text);
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`domain ${domid} was not built by this toolstack`);
  const result = await xl.domains.run('pciAttach', [managed.built, pci]);
  if (result.ok) await xl.domains.update(managed, result.domain);
  return replyOf(result);
};
