// xl reboot DOMAIN, waiting as with -w: the guest is asked to stop, read back, destroyed and built again under a new number. A
// guest that does not listen is stopped as a reset button would.
import { shutdownReason } from '#model/hypercall/calls';
import { askToShutDown } from './guest-shutdown.ts';
import { replyOf } from './result.ts';
import { findDomain, refused, type Verb } from './verb.ts';

export const reboot: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], 'reboot <Domain>');
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`domain ${domid} was not built by this toolstack`);
  if (managed.ending) return refused(`domain ${domid} is ending already`);
  managed.ending = true; // its shutdown is this verb's to handle
  const { reboot: reason } = shutdownReason;
  if (!(await askToShutDown(xl, domid, reason))) await xl.dom0.call({ op: 'remote_shutdown', domid, reason });
  return replyOf(await xl.domains.reboot(managed), `Rebooting domain ${domid}\n`);
};
