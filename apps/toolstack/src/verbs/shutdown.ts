// xl shutdown DOMAIN: the guest is asked; what follows is on_poweroff.
import { shutdownReason } from '#model/hypercall/calls';
import { askToShutDown } from './guest-shutdown.ts';
import { findDomain, printed, refused, type Verb } from './verb.ts';

export const shutdown: Verb = async (xl, args) => {
  const { domid } = await findDomain(xl, args[0], 'shutdown <Domain>');
  const line = `Shutting down domain ${domid}\n`;
  if (await askToShutDown(xl, domid, shutdownReason.poweroff)) return printed(line);
  return { ...refused(`shutdown failed (domain ${domid} does not listen): use xl destroy`), stdout: line };
};
