// xl pci-detach DOMAIN BDF: a device leaves a running guest, back to quarantine.
import { pciSbdf } from '#model/toolstack/pci-spec';
import { readArguments } from './arguments.ts';
import { readPciSpec } from './pci.ts';
import { replyOf } from './result.ts';
import { findDomid, refused, type Verb } from './verb.ts';

const NAME = 'pci-detach';

export const pciDetach: Verb = async (xl, args) => {
  const [domain = '', text = ''] = readArguments(NAME, args, 2, { f: 'force' }).words;
  const domid = await findDomid(xl, domain);
  const pci = readPciSpec(NAME, text);
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`domain ${domid} was not built by this toolstack`);
  const result = await xl.domains.run('pciDetach', [managed.built, pciSbdf(pci)]);
  if (result.ok) await xl.domains.update(managed, result.domain);
  return replyOf(result);
};
