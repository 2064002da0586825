// What `xl shutdown` and `xl reboot` share: the guest's kernel is asked to stop, and is given some time.
import { setTimeout as sleep } from 'node:timers/promises';
import { domInfoFlag } from '#model/hypercall/calls';
import type { Toolstack } from './verb.ts';

const PATIENCE_MS = 10_000;
const LOOK_MS = 20;

/** Whether the domain has shut down; a kernel that is not there or does not listen makes it false. */
export async function askToShutDown(xl: Toolstack, domid: number, reason: number): Promise<boolean> {
  if (await isShutDown(xl, domid)) return true;
  if (!xl.placement.placed(domid)) return false;
  // A kernel that obeys ends its process, and its agent's answer may go down with it: what counts is the domain's state.
  let unheard = false;
  void xl.placement.command(domid, { do: 'shutdown', reason }).catch(() => {
    unheard = true;
  });
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline && !unheard; ) {
    if (await isShutDown(xl, domid)) return true;
    await sleep(LOOK_MS);
  }
  return isShutDown(xl, domid);
}

/** A domain that is gone has shut down, too. */
async function isShutDown({ dom0 }: Toolstack, domid: number): Promise<boolean> {
  const { info } = await dom0.call({ op: 'getdomaininfo', domid });
  return !info || (info.flags & (domInfoFlag.shutdown | domInfoFlag.dying)) !== 0;
}
