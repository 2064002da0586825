// What `xl shutdown` and `xl reboot` share: which domains are meant, and how a guest's kernel is asked to stop and given some time.
import { setTimeout as sleep } from 'node:timers/promises';
import { domInfoFlag } from '#model/hypercall/calls';
import type { XlReply } from '#wire/messages';
import { readArguments } from './arguments.ts';
import { domainList, EXIT_OK, findDomid, refused, type Toolstack, type Verb } from './verb.ts';

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

/** `[-a] [-w] [-F] DOMAIN`: one after the other. Always waits, as with -w: what is asked for next finds it done. */
export function forEachDomain(
  verb: 'shutdown' | 'reboot',
  stop: (xl: Toolstack, domid: number) => Promise<XlReply>,
): Verb {
  return async (xl, args) => {
    const { words, has } = readArguments(verb, args, 0, { a: 'all', w: 'wait', F: 'fallback' });
    const [name] = words;
    if (name === undefined && !has('a')) return refused('You must specify -a or a domain id.\n\n');
    const guests = has('a') ? (await domainList(xl)).filter(({ domid }) => domid !== 0) : [];
    const domids = has('a') ? guests.map(({ domid }) => domid) : [await findDomid(xl, name ?? '')];
    let all: XlReply = { exitCode: EXIT_OK, stdout: '', stderr: '' };
    for (const domid of domids) {
      const { exitCode, stdout, stderr } = await stop(xl, domid);
      all = { exitCode: all.exitCode || exitCode, stdout: all.stdout + stdout, stderr: all.stderr + stderr };
      if (exitCode !== EXIT_OK) break;
    }
    return all;
  };
}
