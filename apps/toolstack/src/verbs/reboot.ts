// xl reboot DOMAIN: the guest is asked to stop, read back, destroyed and built again under a new number. A guest that does not
// listen is stopped as a reset button would.
import { shutdownReason } from '#model/hypercall/calls';
import { askToShutDown, forEachDomain } from './guest-shutdown.ts';
import { replyOf } from './result.ts';
import { refused } from './verb.ts';

export const reboot = forEachDomain('reboot', async (xl, domid) => {
  const managed = xl.domains.get(domid);
  if (!managed) return refused(`Rebooting domain ${domid}\nreboot failed (rc=-3)`);
  if (managed.ending) return refused(`domain ${domid} is ending already`);
  managed.ending = true; // its shutdown is this verb's to handle
  const { reboot: reason } = shutdownReason;
  if (!(await askToShutDown(xl, domid, reason))) await xl.dom0.call({ op: 'remote_shutdown', domid, reason });
  const reply = replyOf(await xl.domains.reboot(managed));
  return { ...reply, stderr: `Rebooting domain ${domid}\n${reply.stderr}` };
});
