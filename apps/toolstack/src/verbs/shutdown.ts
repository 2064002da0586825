// xl shutdown DOMAIN: the guest is asked; what follows is on_poweroff.
import { shutdownReason } from '#model/hypercall/calls';
import { askToShutDown, forEachDomain } from './guest-shutdown.ts';
import { EXIT_FAILURE, EXIT_OK } from './verb.ts';

const ERROR_TIMEDOUT = -7;

export const shutdown = forEachDomain('shutdown', async (xl, domid) => {
  const line = `Shutting down domain ${domid}\n`;
  if (await askToShutDown(xl, domid, shutdownReason.poweroff)) return { exitCode: EXIT_OK, stdout: '', stderr: line };
  // xl does not wait, so it cannot say this; a guest that does not listen has to be destroyed.
  return { exitCode: EXIT_FAILURE, stdout: '', stderr: `${line}shutdown failed (rc=${ERROR_TIMEDOUT})\n` };
});
